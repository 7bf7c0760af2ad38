"""Held-out examples that a person can judge: gaps with guesses, texts that go on, texts that are restored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from training.inference.predictions import PredictingObjective, Predictions
from training.objectives.text import seen_tokens

ASKED, HIDDEN, NOTHING, BREAK = "____", "▁", "–", " ¶ "
AROUND = 14  # tokens shown on each side of a gap
PROMPT, MOST, FEWEST = 32, 24, 4  # tokens of a text, and of its continuation; of a text at least
GREEDY = "the likeliest token each time"
EXTRA = 8  # tokens that a restored text may be longer than the truth


Place = tuple[Predictions, int]
"""A batch, and the number of a row in it."""


class Models(Protocol):
    """n-gram models of targets."""

    def __call__(self, asked: Contexts) -> dict[str, Scored]: ...


class Chooser:
    """Chooses examples among held-out rows, by a key. preprocessor: folder of the tokenizer."""

    def __init__(self, parts: Sequence[Predictions], models: Models, preprocessor: Path, seed: int, count: int) -> None:
        special = specials(preprocessor)
        self.models, self.seed, self.count = models, seed, count
        self.words = Words(Pieces(load(preprocessor), special), special)
        places = [(part, row) for part in parts for row in range(num_rows(part.rows))]
        order = np.random.default_rng(key(seed, "examples")).permutation(len(places))
        self.places = [places[number] for number in order.tolist()]

    def tables(self, objective: PredictingObjective) -> list[Table]:
        """Tables of examples: what a network writes that can, and single tokens."""
        rows = self.places[0][0].rows
        truth = next((name for name in ("target_tokens", "target_ids") if name in rows), None)
        if self.places[0][0].targets.both_sides:
            shown = [self._tokens()]
        elif truth:
            shown = [self._restored(objective, truth)]
        else:
            shown = [self._continued(objective), self._tokens()]
        filled = [table for table in shown if table.rows]
        return [replace(table, examples=number == 0) for number, table in enumerate(filled)]

    def _tokens(self) -> Table:
        """One token of each row: what the network sees around it, the truth, and guesses with their probabilities."""
        words, random = self.words, np.random.default_rng(key(self.seed, "tokens"))
        both_sides = self.places[0][0].targets.both_sides
        rows = []
        for part, row in self.places:
            targets = part.targets
            start, end = targets.positions.offsets[row : row + 2]
            asked = np.flatnonzero(ngrams.is_hidden(targets, words.special.is_special)[start:end])
            if not len(asked):
                continue
            number = int(start) + int(random.choice(asked))
            text, place = targets.text.row(row), int(targets.positions.values[number])
            first = max(0, place - (AROUND if both_sides else 2 * AROUND))
            around = text[first : place + AROUND + 1] if both_sides else text[first : place + 1]
            contexts = ngrams.contexts_of(targets, words.special.is_special)
            others = self.models(Contexts(*(column[number : number + 1] for column in contexts)))
            guesses = zip(part.ids[number].tolist(), np.exp(part.of_ids[number]).tolist(), strict=True)
            rows.append(
                [
                    words.text(around, place - first),
                    words.name(int(targets.ids.values[number])),
                    ", ".join(f"{words.name(token)} {p:.0%}" for token, p in guesses),
                    words.name(int(others[ngrams.BOTH if both_sides else ngrams.NAMES[-1]].best[0])),
                ]
            )
            if len(rows) == self.count:
                break
        gaps = f"Gaps that were filled in ({ASKED} is asked for, {HIDDEN} is hidden, too)"
        title = gaps if both_sides else "What comes next"
        return Table(title, ["text", "truth", "network", "n-grams" if both_sides else ngrams.NAMES[-1]], rows)

    def _continued(self, objective: PredictingObjective) -> Table:
        """Beginnings of rows, their continuations by the network, and those of the text."""
        rows: list[list[str]] = []
        for text in _first_sequences(self.places):
            prompt = min(PROMPT, len(text) // 2)
            if len(rows) == self.count:
                break
            if prompt < FEWEST:
                continue
            given, truth = text[:prompt], text[prompt : prompt + MOST]
            written = objective.written({"input": Ragged.from_rows([given])}, len(truth))
            if written is None:
                break
            rows.append([*map(self.words.text, (given, written.row(0), truth))])
        return Table(f"How texts go on ({GREEDY})", ["text", "network", "truth"], rows)

    def _restored(self, objective: PredictingObjective, column: str) -> Table:
        """What the network was given, what it makes of it, and the truth, which `column` holds."""
        rows: list[list[str]] = []
        for part, row in self.places[: self.count]:
            truth = ragged(part.rows, column).row(row)
            written = objective.written(take(part.rows, [row]), len(truth) + EXTRA)
            if written is None:
                break
            seen = seen_tokens(part.rows).row(row)
            rows.append([*map(self.words.text, (seen, written.row(0), truth))])
        return Table(f"Texts that were restored ({GREEDY})", ["given", "network", "truth"], rows)


class Words:
    """Ids as people read them."""

    def __init__(self, pieces: Pieces, special: Specials) -> None:
        self.pieces, self.special = pieces, special
        self.sentinels = {token: f"⟨{number}⟩" for number, token in enumerate(special.sentinels, 1)}
        self.mask = special.get("mask")

    def text(self, ids: np.ndarray, asked: int | None = None, marked: Sequence[int] = ()) -> str:
        """A text, without the special tokens that frame it.

        asked: the place of a gap that is asked for. marked: places of tokens to put in brackets.
        """
        parts = []
        for place, (token, text) in enumerate(zip(ids.tolist(), self.pieces.texts(ids.tolist()), strict=True)):
            name = self.sentinels.get(token, HIDDEN if token == self.mask else "")
            if place == asked:
                name = ASKED
            if name:
                parts.append(f" {name}")
            elif token not in self.special.all or token == self.special.get("unk"):
                parts.append(f"{text[: len(text) - len(text.lstrip())]}⟦{text.lstrip()}⟧" if place in marked else text)
        return re.sub(" +", " ", re.sub(r"\s*\n\s*", BREAK, "".join(parts))).strip() or NOTHING

    def name(self, token: int) -> str:
        """One token; a hyphen before one that continues a word."""
        name = self.sentinels.get(token) or self.pieces.name(token)
        ordinary = int(self.special.ordinary[0])
        begins = token in self.special.all or self.pieces.texts([ordinary, token])[1].startswith(" ")
        return name if begins or len(name) == 1 or not name[0].isalpha() else f"-{name}"


def _first_sequences(places: Sequence[Place]) -> Iterator[np.ndarray]:
    for part, row in places:
        text = seen_tokens(part.rows).row(row)
        if "sequence" in part.rows:
            sequence = ragged(part.rows, "sequence").row(row)
            text = text[sequence == sequence[0]]
        yield text
