"""What each word does to an answer: it is left out, and the network asked again (Li et al. 2016, "erasure").

    "not a bad film" ─► "a bad film", "not bad film", "not a film", "not a bad" ─► scores ─► an effect of each word

All that is asked again goes the way of an evaluation, so a word beyond the network's length has no effect. Of a single
word there is none either: without it nothing can be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_prep.labelled.examples import Example
from data_prep.text.words import places
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import module_of


@dataclass(frozen=True)
class Word:
    """A word between `start` and `end` of an example's first or second text (`of`: 0 or 1).

    effect: by how much the answer is nearer to the wrong one, and further from the right one, with the word than
    without it: in nats of the log odds of the two (class, choice), or in units of the number (score).
    """

    of: int
    start: int
    end: int
    effect: float


def effects(model: FineTuned, cases: Sequence[tuple[Example, Any]]) -> list[list[Word]]:
    """The words of each example, in their order. cases: examples whose truth is known, and a wrong answer to each."""
    asked: list[Example] = []
    for example, _ in cases:
        asked += [example, *(_without(example, *place) for place in _places(example))]
    truths, answers = [], []
    for example, answer in cases:
        number = 1 + len(_places(example))
        truths += [example] * number
        answers += [answer] * number
    margins = _margins(model, asked, truths, answers)
    words, start = [], 0
    for example, _ in cases:
        of_example = _places(example)
        whole, without = margins[start], margins[start + 1 : start + 1 + len(of_example)]
        words.append([Word(*place, float(whole - each)) for place, each in zip(of_example, without, strict=True)])
        start += 1 + len(of_example)
    return words


def _places(example: Example) -> list[tuple[int, int, int]]:
    texts = (example.text, example.text_pair or "")
    omissions = [(of, *place) for of, text in enumerate(texts) for place in places(text)]
    return omissions if len(omissions) > 1 else []


def _without(example: Example, of: int, start: int, end: int) -> Example:
    text = (example.text, example.text_pair or "")[of]
    before, after = text[:start], text[end:]
    text = before + (after[1:] if after[:1].isspace() and (not before or before[-1].isspace()) else after)
    return replace(example, text=text) if of == 0 else replace(example, text_pair=text)


def _margins(
    model: FineTuned, asked: Sequence[Example], truths: Sequence[Example], answers: Sequence[Any]
) -> np.ndarray:
    """[examples] how much nearer the network is to each answer than to the truth."""
    margins: list[float] = []
    for rows, scores in model.scored(asked):
        if model.shape.head == "score":
            margins += module_of(model.shape).predicted(model.shape, rows, scores).answers
            continue
        for row in range(len(scores)):
            of_row, place = scores.row(row).ravel().astype(np.float64), len(margins)
            margins.append(of_row[answers[place]] - of_row[truths[place].label])
    if model.shape.head == "score":
        signs = [np.sign(answer - (truth.score or 0.0)) for truth, answer in zip(truths, answers, strict=True)]
        return np.array(margins) * signs
    return np.array(margins)
