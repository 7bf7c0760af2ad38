"""Cosines of word vectors against what people say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from data_prep.tokens.tokenizers import load, specials
from data_prep.tokens.vocabulary.word import read_counts
from pipeline.downstream.word_vectors.lists import Pair, Question

BATCH = 256  # questions at once


class Similarity(NamedTuple):
    """Spearman's correlation over the pairs whose words are known; nan where it cannot be computed."""

    correlation: float
    used: int
    asked: int


class Accuracy(NamedTuple):
    """Analogies of a section that were answered rightly, those that could be asked, and all."""

    right: int
    used: int
    asked: int


@dataclass(frozen=True)
class Vectors:
    """Unit vectors [V, D] of a vocabulary; `ids`: of its words, the most frequent first. A word's id, if it has one."""

    unit: np.ndarray
    ids: np.ndarray
    texts: Sequence[str]
    id_of: Callable[[str], int | None]

    @staticmethod
    def of_folder(folder: Path) -> Vectors:
        """The input vectors of a folder. UserError where it holds none."""
        from training.inference.networks.word_vectors import open_network

        vectors = open_network(folder).input.weight.detach().numpy().astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        counts, tokenizer = read_counts(folder), load(folder)
        ids = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        known = set(ids.tolist())

        def id_of(word: str) -> int | None:
            word_ids = tokenizer.encode(word, add_special_tokens=False).ids
            return word_ids[0] if len(word_ids) == 1 and word_ids[0] in known else None

        return Vectors(vectors / np.maximum(lengths, 1e-12), ids, specials(folder).texts, id_of)

    def similarity(self, pairs: Sequence[Pair]) -> Similarity:
        """How cosines rank pairs, compared with people."""
        numbers = [(self.id_of(pair.first), self.id_of(pair.second), pair.score) for pair in pairs]
        known = [(a, b, score) for a, b, score in numbers if a is not None and b is not None]
        if len({score for _, _, score in known}) < 2:
            return Similarity(float("nan"), len(known), len(pairs))
        first, second, scores = zip(*known, strict=True)
        cosines = (self.unit[list(first)] * self.unit[list(second)]).sum(1)
        correlation: Any = spearmanr(cosines, scores)
        return Similarity(float(correlation.statistic), len(known), len(pairs))

    def analogies(self, questions: Sequence[Question], restrict: int) -> dict[str, Accuracy]:
        """By section, how often the word nearest to b − a + c is d, among the `restrict` most frequent words."""
        allowed = self.ids[:restrict]
        place = {number: index for index, number in enumerate(allowed.tolist())}
        places = [[place.get(self.id_of(word)) for word in question[1:]] for question in questions]  # type: ignore[arg-type]
        askable = [number for number, words in enumerate(places) if None not in words]
        unit, right = self.unit[allowed], np.zeros(len(questions), bool)
        for start in range(0, len(askable), BATCH):
            batch = askable[start : start + BATCH]
            a, b, c, d = np.array([places[number] for number in batch]).T
            cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
            for given in (a, b, c):
                cosines[np.arange(len(batch)), given] = -np.inf
            right[batch] = cosines.argmax(1) == d
        sections = np.array([question.section for question in questions])
        is_askable = np.zeros(len(questions), bool)
        is_askable[askable] = True
        accuracies = {}
        for name in dict.fromkeys(sections.tolist()):
            here = sections == name
            accuracies[name] = Accuracy(int(right[here].sum()), int(is_askable[here].sum()), int(here.sum()))
        return accuracies

    def nearest(self, number: int, count: int) -> list[tuple[str, float]]:
        """The words nearest to a word, with cosines."""
        cosines = self.unit[self.ids] @ self.unit[number]
        cosines[self.ids == number] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - 1)]
        return [(self.texts[int(self.ids[place])], float(cosines[place])) for place in best]
