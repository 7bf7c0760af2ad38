"""n-gram models of the tokens that a network predicts, as baselines: how well a token's neighbours predict it.

From left to right (the next token, a sequence of its own) a model of order n is asked with the n − 1 tokens before.

Masked tokens are filled in from both sides. Of the neighbours, as many are used, from the nearest on, as the network
sees, too: at most two on each side, up to the first that is masked as well. With a model of the order that this allows,

    p(w | left, right) ∝ p(w | left) · p(w | right) / p(w)

which holds where left and right tell of each other only through w. p(w | right) is a model of the text read backwards;
special tokens get no share. Neighbours that the corruption replaced are taken as they stand, as the network takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from data_prep.shards.rows import Ragged
from pipeline.downstream.predictions.kneser_ney import KneserNey, NGrams
from training.objectives.text import Targets

ORDER = 3
NAMES = ("unigram", "bigram", "trigram")
CELLS = 1 << 22  # probabilities at once
LEFT, RIGHT, BOTH = "trigram, from the left", "trigram, from the right", "trigrams, from both sides"


class Scored(NamedTuple):
    """Of M targets: log p of the truth, and the likeliest id. Both [M]."""

    truth: np.ndarray
    best: np.ndarray


class Contexts(NamedTuple):
    """Targets with their neighbours, the nearest one last.

    words: [M]. left, right: [M, 2]; the size of the vocabulary stands for what is outside of the text. num_left,
    num_right: [M], how many of them may be used.
    """

    words: np.ndarray
    left: np.ndarray
    right: np.ndarray
    num_left: np.ndarray
    num_right: np.ndarray


def contexts_of(targets: Targets, special: np.ndarray) -> Contexts:
    """The targets as a network sees them. special: [vocabulary] bool, ids that are no text."""
    text, place = targets.text.values, targets.flat
    hidden = np.zeros(len(text), bool)
    if targets.both_sides:
        hidden[place] = special[text[place]]
    return _contexts(targets, text, place, targets.ids.values, hidden, len(special))


def words_of(targets: Targets, special: np.ndarray) -> Contexts:
    """The tokens that n-grams are counted of: with the targets put back, all that are text or could be a target."""
    place, text = targets.flat, targets.clean.values
    if targets.both_sides:
        place = np.flatnonzero(~special[text])
    return _contexts(targets, text, place, text[place], np.zeros(len(text), bool), len(special))


def is_hidden(targets: Targets, special: np.ndarray) -> np.ndarray:
    """[M] bool: whether the network sees nothing at the target's own place."""
    place = targets.flat
    return special[targets.text.values[place]] if targets.both_sides else np.ones(len(place), bool)


def _contexts(
    targets: Targets, text: np.ndarray, place: np.ndarray, words: np.ndarray, hidden: np.ndarray, outside: int
) -> Contexts:
    begin, end = (edge[place] for edge in _sequences(targets.text, targets.sequence))
    sides, counts = [], []
    for step in (-1, 1):
        neighbours, usable, count = [], np.ones(len(place), bool), np.zeros(len(place), np.int64)
        for distance in range(1, ORDER):
            near = place + step * distance
            inside = (near >= begin) & (near <= end)
            near = np.where(inside, near, 0)
            neighbours.append(np.where(inside, text[near], outside))
            usable = usable & ~(inside & hidden[near])
            count += usable
        sides.append(np.stack(neighbours[::-1], 1).astype(np.int32))
        counts.append(count)
    return Contexts(words.astype(np.int32), *sides, *counts)


def _sequences(text: Ragged, sequence: Ragged | None) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last place of each token's own sequence, [N] each."""
    opens = text.positions() == 0
    if sequence is not None:
        opens[1:] |= np.diff(sequence.values) != 0
    starts = np.flatnonzero(opens)
    number = np.cumsum(opens) - 1
    return starts[number], np.append(starts[1:], len(opens))[number] - 1


def join(parts: Iterable[Contexts]) -> Contexts:
    """All of them, one after another."""
    return Contexts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class NextTokens:
    """Models of order 1 to 3 of what follows."""

    def __init__(self, counted: Contexts, special: np.ndarray) -> None:
        ngrams = NGrams(counted.left, counted.words)
        self.models = [KneserNey(ngrams, len(special), order) for order in range(1, ORDER + 1)]

    def __call__(self, asked: Contexts) -> dict[str, Scored]:
        scored = {}
        for name, model in zip(NAMES, self.models, strict=True):
            truth = np.log(model.probabilities(NGrams(asked.left, asked.words)))
            scored[name] = Scored(truth, model.best(asked.left))
        return scored


class FillIns:
    """Models of order 1 to 3 in both directions."""

    def __init__(self, counted: Contexts, special: np.ndarray) -> None:
        self.special = special
        self.models = [
            [KneserNey(NGrams(side, counted.words), len(special), order) for order in range(1, ORDER + 1)]
            for side in (counted.left, counted.right)
        ]

    def __call__(self, asked: Contexts) -> dict[str, Scored]:
        parts: dict[str, list[Scored]] = {}
        size = max(1, CELLS // len(self.special))
        for start in range(0, len(asked.words), size):
            chunk = Contexts(*(column[start : start + size] for column in asked))
            for name, p in self._distributions(chunk):
                p[:, self.special] = 0
                p /= p.sum(1, keepdims=True)
                truth = np.log(np.maximum(p[np.arange(len(p)), chunk.words], np.finfo(np.float64).tiny))
                parts.setdefault(name, []).append(Scored(truth, p.argmax(1)))
        return {name: Scored(*map(np.concatenate, zip(*scored, strict=True))) for name, scored in parts.items()}

    def _distributions(self, asked: Contexts) -> Iterator[tuple[str, np.ndarray]]:
        unigram = self.models[0][0].distributions(asked.left[:1])
        left = self._of_side(self.models[0], asked.left, asked.num_left)
        right = self._of_side(self.models[1], asked.right, asked.num_right)
        yield NAMES[0], np.repeat(unigram, len(left), 0)
        yield BOTH, left * right / unigram
        yield LEFT, left
        yield RIGHT, right

    def _of_side(self, models: list[KneserNey], contexts: np.ndarray, usable: np.ndarray) -> np.ndarray:
        p = np.empty((len(contexts), len(self.special)))
        for count, model in enumerate(models):
            rows = np.flatnonzero(usable == count)
            if len(rows):
                p[rows] = model.distributions(contexts[rows])
        return p
