"""Rows of shards, as the network will see them.

    x     the row as it was written by people; what must be predicted stands out
    x′    what the network sees
    x″    what it must predict: position, token, and what the network saw where that is not [MASK]

Clean rows are corrupted here by the very draws that training makes, so epoch 0 shows what training's first epoch saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from data_prep.corpus.documents import Corpus
from data_prep.corruptions import CorruptionConfig, build, config_of
from data_prep.corruptions.masking import restore
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.format import Shards
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows, ragged
from data_prep.shards.streams import LONGER, stream_of
from data_prep.tokens.tokenizers import load, specials
from flows.show.detokenize import Pieces
from flows.show.readable import plain
from pipeline.artifact import Artifact

LABELS = {"nsp": ("B is next", "B is random"), "sop": ("in order", "swapped")}
TARGET, MASKED, RANDOM, KEPT = "bold green", "bold magenta", "bold red", "bold cyan"


def show_rows(
    artifact: Artifact,
    tokenizer_folder: Path | None,
    index: range,
    console: Console,
    split: str,
    corruption: CorruptionConfig | None,
    corpus_folder: Path | None,
    epoch: int,
) -> None:
    """Print rows `index` of a split (cut where the split ends)."""
    shards = Shards(artifact.path / split, artifact.key)
    if index.start >= shards.rows:
        raise UserError(f"{artifact.key} has {shards.rows:,} rows in {split}, so none is number {index.start:,}")
    if tokenizer_folder is None:
        parent = artifact.manifest["inputs"].get("preprocessor")
        wanted = f"its tokenizer {parent['key']}" if parent else "a tokenizer"
        raise UserError(
            f"the rows of {artifact.key} cannot be read without {wanted}: make it again, or give its folder"
        )
    special = specials(tokenizer_folder)
    pieces = Pieces(load(tokenizer_folder), special)
    numbers = np.arange(index.start, min(index.stop, shards.rows))
    rows = shards.read(numbers)
    rows, note = as_seen(rows, numbers, artifact.config["settings"], split, corruption, special, epoch)
    console.print(Text(f"rows {numbers[0]:,}–{numbers[-1]:,} of {shards.rows:,} in {split}; {note}", "dim"))
    names = _document_names(rows, corpus_folder, split)
    words = LABELS.get(artifact.config["settings"]["compose"].get("kind", ""))
    for row, place in enumerate(numbers.tolist()):
        view = RowView(rows, row, pieces, special)
        title = [f"row {place:,}", names[row]]
        if words and "label" in rows:
            title.append(", ".join(words[label] for label in _values(rows["label"], row)))
        console.print(view.panel(" · ".join(part for part in title if part), marked=_needs_marks(console)))
    if "target_ids" in rows and not _needs_marks(console):
        legend = ("target", TARGET), " · ", ("[MASK]", MASKED), " · ", ("random", RANDOM), " · ", ("kept", KEPT)
        console.print(Text.assemble(*legend))


def as_seen(
    rows: Rows,
    numbers: np.ndarray,
    config: dict[str, Any],
    split: str,
    corruption: CorruptionConfig | None,
    special: Specials,
    epoch: int,
) -> tuple[Rows, str]:
    """The rows with x′ and x″ where a corruption is known, and what was done."""
    if "target_ids" in rows:
        return rows, "corrupted when they were written"
    settings = corruption or (config_of(config["corruption"]) if config.get("corruption") else None)
    if settings is None:
        return rows, "not corrupted yet"
    draws = Draws(key(config["seed"], *stream_of(split, config["name"])), epoch, numbers)
    return build(settings, special)(rows, draws), f"corrupted as training does it in epoch {epoch}"


def _document_names(rows: Rows, corpus_folder: Path | None, split: str) -> list[str]:
    if "document" not in rows:
        return [""] * num_rows(rows)
    numbers = [list(dict.fromkeys(_values(rows["document"], row))) for row in range(num_rows(rows))]
    if corpus_folder is None:
        return [f"document {', '.join(map(str, some))}" for some in numbers]
    kind, _, part = split.partition("-")
    names = Corpus(corpus_folder, "train" if kind == LONGER else kind, part or None).table["name"]
    return [", ".join(plain(names[number].as_py()) for number in some) for some in numbers]


def _values(column: Ragged | np.ndarray, row: int) -> list[int]:
    """One value, or one for each sequence of a packed row."""
    return (column.row(row) if isinstance(column, Ragged) else column[row : row + 1]).tolist()


def _needs_marks(console: Console) -> bool:
    """Whether targets must be marked by characters, for want of colour."""
    return console.color_system is None or console.no_color


class RowView:
    """One row, readable."""

    def __init__(self, rows: Rows, row: int, pieces: Pieces, special: Specials) -> None:
        self.pieces, self.special = pieces, special
        self.seen = ragged(rows, "seen" if "seen" in rows else "input").row(row)
        self.segment = ragged(rows, "segment").row(row) if "segment" in rows else np.zeros(len(self.seen), np.uint8)
        sequence = ragged(rows, "sequence").row(row).astype(np.int64) if "sequence" in rows else 0
        self.part = self.segment + 2 * sequence  # each on a line of its own
        self.clean, self.targets = self.seen, np.empty(0, np.int64)
        self.corrupted = "target_ids" in rows
        if self.corrupted:
            self.clean = restore(rows).row(row)
            self.targets = ragged(rows, "target_positions").row(row).astype(np.int64)

    def panel(self, title: str, marked: bool) -> Panel:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("x", self.text(self.clean, dict.fromkeys(self.targets.tolist(), TARGET), marked))
        if not self.corrupted:
            return Panel(table, title=Text(title), title_align="left")
        table.add_row("x′", self.text(self.seen, self.fates, marked))
        table.add_row("x″", self.answers())
        return Panel(Group(table), title=Text(title), title_align="left", subtitle=Text(self.counts(), "dim"))

    @property
    def fates(self) -> dict[int, str]:
        """Style of each target's position, by what became of it."""
        fates = {}
        for position in self.targets.tolist():
            is_kept = self.seen[position] == self.clean[position]
            is_mask = self.seen[position] == self.special.get("mask")
            fates[position] = KEPT if is_kept else MASKED if is_mask else RANDOM
        return fates

    def counts(self) -> str:
        fates = list(self.fates.values())
        kinds = [(MASKED, "masked"), (RANDOM, "random"), (KEPT, "kept")]
        said = ", ".join(f"{fates.count(style)} {word}" for style, word in kinds if style in fates)
        length = len(self.clean) - int((self.clean == self.special.get("pad")).sum())
        return f"{len(fates)} of {length} tokens to predict" + (f": {said}" if said else "")

    def text(self, ids: np.ndarray, styles: dict[int, str], marked: bool) -> Text:
        """The tokens as a text; `styles` by position. With `marked`, styled tokens other than [MASK] are in ‹ ›."""
        text = Text()
        keep = [place for place, token in enumerate(ids.tolist()) if token != self.special.get("pad")]
        texts = self.pieces.texts(ids[keep].tolist())
        for position, piece in zip(keep, texts, strict=True):
            if position and self.part[position] != self.part[position - 1]:
                text.append("\n")
                piece = piece.lstrip()
            token, style = int(ids[position]), styles.get(position, "")
            if not style and token in self.special.all:
                style = "yellow" if token == self.special.get("unk") else "dim"
            bare = piece.lstrip(" ")
            text.append(piece[: len(piece) - len(bare)] if bare else "")
            if position in styles and not bare:  # white space that must be predicted, or bytes of a character
                bare = "␣" * len(piece)
            if marked and position in styles and token != self.special.get("mask"):
                bare = f"‹{bare}›"
            text.append(bare or piece, style)
        return text

    def answers(self) -> Text:
        """x″: every target with its position, and what the network saw instead where that is not [MASK]."""
        text = Text()
        for position, fate in self.fates.items():
            if text:
                text.append(" · ", "dim")
            text.append(f"{position} ", "dim").append(self.pieces.name(int(self.clean[position])), TARGET)
            if fate == RANDOM:
                text.append(" (saw ").append(self.pieces.name(int(self.seen[position])), RANDOM).append(")")
            elif fate == KEPT:
                text.append(" (").append("kept", KEPT).append(")")
        return text
