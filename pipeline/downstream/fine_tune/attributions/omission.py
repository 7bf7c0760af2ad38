"""What each part of an example does to an answer: it is left out, and the network asked again (Li et al. 2016,
"erasure").

    "not a bad film" ─► "a bad film", "not bad film", "not a film", "not a bad" ─► scores ─► an effect of each word
    a recording      ─► without its first stretch, without its second …        ─► scores ─► an effect of each stretch

All that is asked again goes the way of an evaluation, so a word beyond the network's length has no effect. Of a single
part there is none either: without it nothing can be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from data_prep.labelled.examples import TEXT, Example
from data_prep.text.words import places
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import module_of, tokenizer_of
from pipeline.downstream.fine_tune.heads.arrays import array_of

MOST_STRETCHES, SHORTEST = 20, 4  # of an array; positions of one


@dataclass(frozen=True)
class Part:
    """A word between the characters `start` and `end` of an example's first or second text (`of`: 0 or 1), or a stretch
    between these positions of its array.

    effect: by how much the answer is nearer to the wrong one, and further from the right one, with the part than
    without it: in nats of the log odds of the two (class, choice), or in units of the number (score).
    """

    of: int
    start: int
    end: int
    effect: float


class Omission(Protocol):
    """How examples of a kind lose a part."""

    def places(self, example: Example) -> list[tuple[int, int, int]]:
        """`of`, `start` and `end` of each part."""
        ...

    def without(self, example: Example, of: int, start: int, end: int) -> Example: ...


class Words:
    """Of texts, words are left out."""

    def places(self, example: Example) -> list[tuple[int, int, int]]:
        texts = (example.text, example.text_pair or "")
        return [(of, *place) for of, text in enumerate(texts) for place in places(text)]

    def without(self, example: Example, of: int, start: int, end: int) -> Example:
        text = (example.text, example.text_pair or "")[of]
        before, after = text[:start], text[end:]
        text = before + (after[1:] if after[:1].isspace() and (not before or before[-1].isspace()) else after)
        return replace(example, text=text) if of == 0 else replace(example, text_pair=text)


class Stretches:
    """Of arrays in files, such as recordings, stretches of nearly equal length are left out."""

    def __init__(self, model: FineTuned) -> None:
        self._read = tokenizer_of(model.shape, model.folder, model.framed)

    def places(self, example: Example) -> list[tuple[int, int, int]]:
        length = len(array_of(example, self._read))
        number = min(MOST_STRETCHES, length // SHORTEST)
        bounds = [length * place // number for place in range(number + 1)] if number else []
        return [(0, start, end) for start, end in pairwise(bounds)]

    def without(self, example: Example, of: int, start: int, end: int) -> Example:
        return replace(example, omitted=(start, end))


def effects(model: FineTuned, cases: Sequence[tuple[Example, Any]]) -> list[list[Part]]:
    """The parts of each example, in their order. cases: examples whose truth is known, and a wrong answer to each."""
    omission: Omission = Words() if model.shape.kind == TEXT else Stretches(model)
    asked: list[Example] = []
    found: list[list[tuple[int, int, int]]] = []
    truths, answers = [], []
    for example, answer in cases:
        of_example = omission.places(example)
        found.append(of_example if len(of_example) > 1 else [])
        variants = [example, *(omission.without(example, *place) for place in found[-1])]
        asked += variants
        truths += [example] * len(variants)
        answers += [answer] * len(variants)
    margins = _margins(model, asked, truths, answers)
    parts, start = [], 0
    for of_example in found:
        whole, without = margins[start], margins[start + 1 : start + 1 + len(of_example)]
        parts.append([Part(*place, float(whole - each)) for place, each in zip(of_example, without, strict=True)])
        start += 1 + len(of_example)
    return parts


def _margins(
    model: FineTuned, asked: Sequence[Example], truths: Sequence[Example], answers: Sequence[Any]
) -> np.ndarray:
    """[examples] how much nearer the network is to each answer than to the truth."""
    head = module_of(model.shape)
    margins: list[float] = []
    for rows, scores in model.scored(asked):
        if model.shape.head == "score":
            margins += head.predicted(model.shape, rows, scores).answers
            continue
        scores = head.of_examples(rows, scores) if hasattr(head, "of_examples") else scores
        for row in range(len(scores)):
            of_row, place = scores.row(row).ravel().astype(np.float64), len(margins)
            margins.append(of_row[answers[place]] - of_row[truths[place].label])
    if model.shape.head == "score":
        signs = [np.sign(answer - (truth.score or 0.0)) for truth, answer in zip(truths, answers, strict=True)]
        return np.array(margins) * signs
    return np.array(margins)
