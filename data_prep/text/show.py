"""Rows of token ids as text.

x     the original row, with the tokens to predict marked
x′    what the network sees
x″    what it must predict: position, token, and what the network saw if not [MASK]; or a separate text
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.corpus.documents import Corpus
from data_prep.corruptions.base import Piece
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows
from data_prep.shards.streams import LONGER
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load, specials
from data_prep.views import Example, Lines, Mark, Selection, Target, Targets, Token, Tokens, View

LABELS = {"nsp": ("B is next", "B is random"), "sop": ("in order", "swapped")}
FIRST_SENTENCES = 3


def examples(selection: Selection, preprocessor: Path, corpus: Path | None) -> list[Example]:
    """Every selected row as text.

    preprocessor: folder of the tokenizer. corpus: folder of the corpus, to name documents; None: they are numbered.
    """
    special = specials(preprocessor)
    pieces = Pieces(load(preprocessor), special)
    rows, corruption = selection.rows, selection.corruption
    names = _document_names(rows, corpus, selection.split)
    words = LABELS.get(selection.settings.get("compose", {}).get("kind", ""))
    shown = []
    for row, number in enumerate(selection.numbers.tolist()):
        title = [f"row {number:,}", names[row]]
        if words and "label" in rows:
            title.append(", ".join(words[label] for label in _values(rows["label"], row)))
        x, *others = corruption.pieces(rows, row) if corruption else [_clean(rows, row)]
        is_sparse = corruption is not None and corruption.targets == "sparse"
        text = RowText(pieces, special, rows, row, x, others, is_sparse)
        shown.append(Example(" · ".join(filter(None, title)), text.views(), text.counts()))
    return shown


def documents(folder: Path, split: str, index: range) -> tuple[list[Example], int]:
    """Documents number `index` of a split with their first sentences, and the number of documents in the split."""
    corpus = Corpus(folder, split)
    shown = []
    for number in range(index.start, min(index.stop, len(corpus))):
        document = corpus[number]
        title = f"{document.name} · {len(document.sentences):,} sentences"
        if document.source != document.name:
            title += f" · {document.source}"
        first = document.sentences[:FIRST_SENTENCES]
        lines = Lines(tuple(first), len(document.sentences) - len(first))
        about = ", ".join(f"{name} {value}" for name, value in document.meta.items())
        shown.append(Example(title, {"": lines}, about))
    return shown, len(corpus)


class RowText:
    """One row as views.

    rows, row: the row's batch and its position there. x: the original row. others: x′ and x″, if it is corrupted.
    is_sparse: x′ has the positions of x.
    """

    def __init__(
        self,
        pieces: Pieces,
        special: Specials,
        rows: Rows,
        row: int,
        x: Piece,
        others: list[Piece],
        is_sparse: bool,
    ) -> None:
        self.pieces, self.special, self.x, self.others, self.is_sparse = pieces, special, x, others, is_sparse
        self.part = np.zeros(0, np.int64)  # of each position; every part begins on a new line
        for name, weight in (("segment", 1), ("sequence", 2)):
            column = rows.get(name)
            if isinstance(column, Ragged):
                values = weight * column.row(row).astype(np.int64)
                self.part = self.part + values if len(self.part) else values

    def views(self) -> dict[str, View]:
        """The row's pieces by name: x, x′ and x″."""
        views: dict[str, View] = {self.x.name: self._text(self.x, "target")}
        if self.is_sparse and len(self.others) == 2:
            seen, targets = self.others
            return views | {seen.name: self._text(seen), targets.name: self._targets(seen, targets)}
        return views | {piece.name: self._text(piece) for piece in self.others}

    def counts(self) -> str:
        """How many tokens to predict, and how they appear in the input, as text; empty if the row is not corrupted."""
        if not self.others:
            return ""
        length = len(self.x.values) - int((self.x.values == self.special.get("pad")).sum())
        targets = self.others[-1]
        if not self.is_sparse:
            return f"{length} tokens; {len(targets.values)} to predict"
        fates = [self._fate(self.others[0], position) for position in targets.places.tolist()]
        counts = [f"{fates.count(mark)} {mark}" for mark in ("masked", "random", "kept") if mark in fates]
        summary = f"{len(targets.values)} of {length} tokens to predict"
        return summary + (f": {', '.join(counts)}" if counts else "")

    def _fate(self, seen: Piece, position: int) -> Mark:
        """How a token to predict appears in the network's input."""
        token = int(seen.values[position])
        if self.is_sparse and token == self.x.values[position]:
            return "kept"
        return "masked" if token == self.special.get("mask") or token in self.special.sentinels else "random"

    def _text(self, piece: Piece, mark: Mark | None = None) -> Tokens:
        """The tokens, with those at the piece's places marked: with `mark`, or by how they appear in the input.

        The places of x″ refer to x, so only the sentinels of spans are marked there.
        """
        ids = piece.values
        part = self.part if len(self.part) == len(ids) else np.zeros(len(ids), np.int64)
        places = set(piece.places.tolist()) if piece.name != "x″" else set()
        keep = [place for place, token in enumerate(ids.tolist()) if token != self.special.get("pad")]
        tokens = []
        for position, text in zip(keep, self.pieces.texts(ids[keep].tolist()), strict=True):
            token = int(ids[position])
            own: Mark = ""
            if position in places:
                own = mark or self._fate(piece, position)
                if not text.strip(" "):  # white space to predict, or bytes of a character
                    text = "␣" * len(text)
            elif token in self.special.sentinels:
                own = "masked"
            elif token in self.special.all:
                own = "unknown" if token == self.special.get("unk") else "special"
            opens = bool(position and part[position] != part[position - 1])
            tokens.append(Token(text, own, opens))
        return Tokens(tuple(tokens))

    def _targets(self, seen: Piece, targets: Piece) -> Targets:
        return Targets(
            tuple(
                Target(
                    position,
                    self.pieces.name(token),
                    self._fate(seen, position),
                    self.pieces.name(int(seen.values[position])),
                )
                for position, token in zip(targets.places.tolist(), targets.values.tolist(), strict=True)
            )
        )


def _clean(rows: Rows, row: int) -> Piece:
    return Piece("x", np.asarray(_values(rows["input"], row)), np.empty(0, np.int64))


def _document_names(rows: Rows, corpus: Path | None, split: str) -> list[str]:
    if "document" not in rows:
        return [""] * num_rows(rows)
    numbers = [list(dict.fromkeys(_values(rows["document"], row))) for row in range(num_rows(rows))]
    if corpus is None:
        return [f"document {', '.join(map(str, documents))}" for documents in numbers]
    kind, _, part = split.partition("-")
    names = Corpus(corpus, "train" if kind == LONGER else kind, part or None).table["name"]
    return [", ".join(names[number].as_py() for number in documents) for documents in numbers]


def _values(column: Ragged | np.ndarray, row: int) -> list[int]:
    """The values of a row, as a list."""
    return (column.row(row) if isinstance(column, Ragged) else column[row : row + 1]).tolist()
