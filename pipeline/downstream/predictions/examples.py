"""Held-out examples that a person can judge: gaps with guesses, texts that go on, texts that are restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.rng import key
from data_prep.shards.rows import Ragged, Specials, num_rows, ragged, take
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load, specials
from pipeline.downstream.predictions import ngrams
from pipeline.downstream.predictions.ngrams import Contexts, Scored
from pipeline.reports.report import Table
from training.inference.predictions import Predictions
from training.objectives.text import TextObjective, seen_tokens

ASKED, HIDDEN, NOTHING = "____", "▁", "–"
AROUND = 14  # tokens shown on each side of a gap
PROMPT, MOST = 32, 24  # tokens of a text, and of how it goes on
EXTRA = 8  # tokens that a restored text may be longer than the truth


class Models(Protocol):
    """n-gram models of targets."""

    def __call__(self, asked: Contexts) -> dict[str, Scored]: ...


def choose(
    objective: TextObjective, parts: Sequence[Predictions], models: Models, preprocessor: Path, seed: int, count: int
) -> list[Table]:
    """Tables of `count` examples, whose rows are drawn by a key."""
    special = specials(preprocessor)
    words = Words(Pieces(load(preprocessor), special), special)
    places = [(part, row) for part in parts for row in range(num_rows(part.rows))]
    order = np.random.default_rng(key(seed, "examples")).permutation(len(places))
    chosen = [places[number] for number in order.tolist()]
    if parts[0].targets.both_sides:
        return [_gaps(chosen, models, words, seed, count)]
    for column in ("target_tokens", "target_ids"):  # a sequence of its own, or what is hidden in the one that is seen
        if column in parts[0].rows:
            return _restored(objective, chosen[:count], words, column)
    return _continued(objective, chosen, words, count)


class Words:
    """Ids as people read them."""

    def __init__(self, pieces: Pieces, special: Specials) -> None:
        self.pieces, self.special = pieces, special
        self.sentinels = {token: f"⟨{number}⟩" for number, token in enumerate(special.sentinels, 1)}
        self.mask = special.get("mask")

    def text(self, ids: np.ndarray, asked: int | None = None) -> str:
        """A text, without the special tokens that frame it; `asked`: the place of a gap that is asked for."""
        told = []
        for place, (token, text) in enumerate(zip(ids.tolist(), self.pieces.texts(ids.tolist()), strict=True)):
            name = self.sentinels.get(token, HIDDEN if token == self.mask else "")
            if place == asked:
                name = ASKED
            if name:
                told.append(f" {name}")
            elif token not in self.special.all or token == self.special.get("unk"):
                told.append(text)
        return "".join(told).strip() or NOTHING

    def name(self, token: int) -> str:
        """One token; a hyphen before what goes on in a word."""
        name = self.pieces.name(token)
        ordinary = int(self.special.ordinary[0])
        begins = token in self.special.all or self.pieces.texts([ordinary, token])[1].startswith(" ")
        return name if begins or len(name) == 1 or not name[0].isalpha() else f"-{name}"


Place = tuple[Predictions, int]


def _gaps(chosen: Sequence[Place], models: Models, words: Words, seed: int, count: int) -> Table:
    """One gap of each row: what stands around it, the truth, and guesses with their probabilities."""
    random = np.random.default_rng(key(seed, "gaps"))
    rows = []
    for part, row in chosen:
        targets = part.targets
        start, end = targets.positions.offsets[row : row + 2]
        hidden = np.flatnonzero(ngrams.is_hidden(targets, words.special.is_special)[start:end])
        if not len(hidden):
            continue
        number = int(start) + int(random.choice(hidden))
        text, place = targets.text.row(row), int(targets.positions.values[number])
        first = max(0, place - AROUND)
        asked = ngrams.contexts_of(targets, words.special.is_special)
        others = models(Contexts(*(column[number : number + 1] for column in asked)))
        guesses = zip(part.ids[number].tolist(), np.exp(part.of_ids[number]).tolist(), strict=True)
        rows.append(
            [
                words.text(text[first : place + AROUND + 1], place - first),
                words.name(int(targets.ids.values[number])),
                ", ".join(f"{words.name(token)} {p:.0%}" for token, p in guesses),
                words.name(int(others[ngrams.BOTH].best[0])),
            ]
        )
        if len(rows) == count:
            break
    title = f"Gaps that were filled in ({ASKED} is asked for, {HIDDEN} is hidden, too)"
    return Table(title, ["text", "truth", "network", "n-grams"], rows)


def _continued(objective: TextObjective, chosen: Sequence[Place], words: Words, count: int) -> list[Table]:
    """Beginnings of rows, how the network goes on, and how the text does."""
    rows: list[list[str]] = []
    for text in _first_sequences(chosen):
        if len(rows) == count:
            break
        prompt = min(PROMPT, len(text) // 2)
        if prompt < 4:
            continue
        most = min(MOST, len(text) - prompt)
        written = objective.written({"input": Ragged.from_rows([text[:prompt]])}, most)
        if written is None:
            return []
        rows.append([words.text(text[:prompt]), words.text(written.row(0)), words.text(text[prompt : prompt + most])])
    title = "How texts go on (the likeliest token each time)"
    return [Table(title, ["text", "network", "truth"], rows)] if rows else []


def _first_sequences(chosen: Sequence[Place]) -> Iterator[np.ndarray]:
    for part, row in chosen:
        text = seen_tokens(part.rows).row(row)
        if "sequence" in part.rows:
            sequence = ragged(part.rows, "sequence").row(row)
            text = text[sequence == sequence[0]]
        yield text


def _restored(objective: TextObjective, chosen: Sequence[Place], words: Words, column: str) -> list[Table]:
    """What the network was given, what it makes of it, and the truth, which `column` holds."""
    rows = []
    for part, row in chosen:
        truth = ragged(part.rows, column).row(row)
        written = objective.written(take(part.rows, [row]), len(truth) + EXTRA)
        if written is None:
            return []
        seen = seen_tokens(part.rows).row(row)
        rows.append([words.text(seen), words.text(written.row(0)), words.text(truth)])
    return [Table("Texts that were restored (the likeliest token each time)", ["given", "network", "truth"], rows)]
