"""F1 of answers that are spans of a recording, in seconds (`data_prep.labelled.segments.as_span`), "" for no answer.

As SQuAD's F1 of words (Rajpurkar et al. 2016), of time: 2 · what both cover / the sum of their durations, of the
accepted answer with the most. An answer is right where it shares at least half of the time that both cover together, as
moments are found in videos (Gao et al. 2017: R@1, IoU = 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.labelled.segments import span_in
from pipeline.downstream.metrics.measured import Column, Measured, check_rows, of_sums, percent

OVERLAP = 0.5


def span_f1(truth: Column, predicted: Column) -> Measured:
    """Mean F1, and `span-accuracy`, the share of answers that are right. truth: of each row the spans that count."""
    parts = raw_scores(truth, predicted)
    sums = np.concatenate([parts, np.ones((len(parts), 1))], axis=-1)
    return of_sums(
        sums,
        lambda sums: {
            "span-f1": percent(sums[..., 0], sums[..., 2]),
            "span-accuracy": percent(sums[..., 1], sums[..., 2]),
        },
    )


def raw_scores(truth: Column, predicted: Column) -> np.ndarray:
    """[rows, 2]: F1 and whether an answer is right, 0 to 1."""
    check_rows(truth, predicted)
    return np.array([_of_row(golds, answer) for golds, answer in zip(truth, predicted, strict=True)])


def _of_row(golds: Sequence[str], answer: str | None) -> tuple[float, float]:
    if not golds or not answer:
        return (1.0, 1.0) if not golds and answer == "" else (0.0, 0.0)
    return max(_shared(span_in(gold), span_in(answer)) for gold in golds)


def _shared(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    common = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    total = one[1] - one[0] + other[1] - other[0]
    return 2 * common / total, float(common >= OVERLAP * (total - common))
