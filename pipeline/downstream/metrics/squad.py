"""Exact match and F1 of answers to questions, computed like the official scripts of SQuAD 1.1 and 2.0.

Answers are compared in lower case, without ASCII punctuation and the articles a, an and the, and with single spaces. F1
is over the bag of words. Of several accepted answers the best match counts. The two scripts differ:

    1.1   a missing prediction is wrong; two answers that normalise to nothing match exactly, but have an F1 of 0
    2.0   accepted answers that normalise to nothing are dropped; the only right answer to a question with none left is
          ""; two empty answers have an F1 of 1; every question must have a prediction

Rajpurkar et al. 2016; Rajpurkar, Jia, Liang 2018. Words are split at spaces; for Chinese see `chinese_answers`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Column, Measured, Values, check_rows, of_sums

Golds = Sequence[Sequence[str]]
"""The accepted answers to each question; none if it is unanswerable."""
Answers = Sequence[str | None]
"""The predicted answer to each question: "" for no answer, None if the prediction is missing."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(truth: Golds, predicted: Answers) -> Measured:
    """F1 and exact match by SQuAD 1.1. UserError if a question has no accepted answer."""
    check_answerable(truth, predicted)
    pairs = zip(truth, predicted, strict=True)
    parts = [(0.0, 0.0) if answer is None else _best(golds, answer, empty_f1=0.0) for golds, answer in pairs]
    return of_answers(np.array(parts))


def squad_v2(truth: Golds, predicted: Answers) -> Measured:
    """F1 and exact match by SQuAD 2.0, over all, over the answerable and over the unanswerable questions."""
    parts = raw_scores(truth, predicted)
    answerable = np.array([bool(golds) for golds in truth], np.float64)
    columns = np.stack([answerable, 1 - answerable], axis=-1)
    split = parts[:, :, None] * columns[:, None, :]

    def value(sums: np.ndarray) -> Values:
        overall, apart, counts = sums[..., :2], sums[..., 2:6], sums[..., 6:]
        total = counts.sum(-1)
        values = {"f1": 100 * overall[..., 0] / total, "exact": 100 * overall[..., 1] / total}
        for which, name in enumerate(("answerable", "unanswerable")):
            for measure, short in enumerate(("f1", "exact")):
                num_rows = np.maximum(counts[..., which], 1)
                values[f"{name}-{short}"] = 100 * apart[..., 2 * measure + which] / num_rows
        return values

    return of_sums(np.concatenate([parts, split.reshape(len(parts), 4), columns], axis=-1), value)


def raw_scores(truth: Golds, predicted: Answers) -> np.ndarray:
    """F1 and exact match [questions, 2], 0 to 1, by SQuAD 2.0. ValueError if a prediction is missing."""
    check_rows(truth, predicted)
    if missing := [row for row, answer in enumerate(predicted) if answer is None]:
        raise ValueError(f"{len(missing)} of {len(truth)} questions have no prediction, the first is row {missing[0]}")
    wordy = ([gold for gold in golds if normalised(gold)] or [""] for golds in truth)
    return np.array([_best(golds, answer or "", 1.0) for golds, answer in zip(wordy, predicted, strict=True)])


@dataclass(frozen=True)
class Threshold:
    """The answer is “no answer” where its score is above `threshold`. score: what this gives, in percent."""

    score: float
    threshold: float


def best_threshold(
    scores: Column,
    predicted: Sequence[str],
    null_scores: Column,
    answerable: Column,
) -> Threshold:
    """The threshold on `null_scores` with the best score, found like in the official script (`best_exact`, `best_f1`).

    scores: [questions], 0 to 1, of the predicted answers (a column of `raw_scores`). null_scores: [questions], higher
    where “no answer” is likelier. As in the script, cuts between equal null scores are tried, too; of equally good
    thresholds the lowest is taken; and if it is best to answer nothing, the threshold is 0.0.
    """
    check_rows(scores, predicted)
    of_null = np.asarray(null_scores, np.float64)
    if not np.isfinite(of_null).all():
        raise UserError(f"{np.count_nonzero(~np.isfinite(of_null))} scores of “no answer” are not finite.")
    has_answer = np.asarray(answerable, bool)
    wrongly_answered = -np.array([bool(answer) for answer in predicted], np.float64)
    order = np.argsort(of_null, kind="stable")
    gains = np.where(has_answer, np.asarray(scores, np.float64), wrongly_answered)[order]
    nothing_answered = float(np.count_nonzero(~has_answer))
    reached = np.cumsum(np.concatenate([[nothing_answered], gains]))
    best = int(np.argmax(reached))
    threshold = float(of_null[order[best - 1]]) if best else 0.0
    return Threshold(100 * float(reached[best]) / len(scores), threshold)


def normalised(answer: str) -> str:
    """The normalised form in which answers are compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT_PUNCTUATION)).split())


def check_answerable(truth: Golds, predicted: Answers) -> None:
    """UserError if a question has no accepted answer."""
    check_rows(truth, predicted)
    if unanswerable := [row for row, golds in enumerate(truth) if not golds]:
        raise UserError(
            f"{len(unanswerable)} of {len(truth)} questions have no answer, the first in row {unanswerable[0]}; use "
            "the metric squad-v2, or leave them out."
        )


def of_answers(parts: np.ndarray) -> Measured:
    """The mean F1 and exact match. parts: those of each question [questions, 2], 0 to 1."""
    return of_sums(
        np.concatenate([parts, np.ones((len(parts), 1))], axis=-1),
        lambda sums: {"f1": 100 * sums[..., 0] / sums[..., 2], "exact": 100 * sums[..., 1] / sums[..., 2]},
    )


def _best(golds: Sequence[str], answer: str, empty_f1: float) -> tuple[float, float]:
    """The best F1 and the best exact match over all accepted answers."""
    plain_answer = normalised(answer)
    words = Counter(plain_answer.split())
    return max(_f1(normalised(gold).split(), words, empty_f1) for gold in golds), max(
        float(normalised(gold) == plain_answer) for gold in golds
    )


def _f1(gold: Sequence[str], answer: Counter[str], of_empty: float) -> float:
    """F1 over bags of words; `of_empty` if both are empty."""
    num_words = answer.total()
    if not gold and not num_words:
        return of_empty
    common = (Counter(gold) & answer).total()
    if not common:
        return 0.0
    precision, recall = common / num_words, common / len(gold)
    return 2 * precision * recall / (precision + recall)
