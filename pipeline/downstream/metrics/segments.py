"""F1 of labelled segments, as it is usual for stretches of video and sound (F1@50: Lea et al. 2017, section 4.1).

A segment is a run of equal labels. One that is predicted is right if it shares at least half of the time that it and a
true one of its label cover together; a true segment counts once. Unlike accuracy, it tells segments that are broken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pipeline.downstream.metrics.measured import Column, Measured, Values, check_rows, f1_of, of_sums, percent

OVERLAP = 0.5

Run = tuple[int, int, str]
"""First position, the one after the last, label."""


def segment_f1(truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """Micro-averaged F1 over segments, with precision and recall. truth, predicted: of each row labels by position;
    true ones of None are not known, and not scored. labels: those of segments; None: all."""
    check_rows(truth, predicted)
    known = None if labels is None else set(labels)
    counted = np.array([_counts(*pair, known) for pair in zip(truth, predicted, strict=True)], np.float64)

    def value(sums: np.ndarray) -> Values:
        right, found, true = sums[..., 0], sums[..., 1], sums[..., 2]
        return {
            "segment-f1": f1_of(right, found, true),
            "segment-precision": percent(right, found),
            "segment-recall": percent(right, true),
        }

    return of_sums(counted, value)


def runs(tags: Sequence[str | None], labels: Collection[str] | None = None) -> list[Run]:
    """The runs of equal labels, of those that are named."""
    begins = [place for place, tag in enumerate(tags) if not place or tag != tags[place - 1]]
    found = zip(begins, [*begins[1:], len(tags)], strict=True)
    of_labels = ((begin, end, tags[begin]) for begin, end in found)
    return [(begin, end, tag) for begin, end, tag in of_labels if tag is not None and (labels is None or tag in labels)]


def _counts(
    truth: Sequence[str | None], predicted: Sequence[str], labels: Collection[str] | None
) -> tuple[int, int, int]:
    """How many predicted segments are right, how many there are, and how many are true."""
    masked = [None if true is None else tag for true, tag in zip(truth, predicted, strict=True)]
    wanted, found = runs(truth, labels), runs(masked, labels)
    right, first, taken = 0, 0, set[int]()
    for segment in found:
        while first < len(wanted) and wanted[first][1] <= segment[0]:
            first += 1
        near = [number for number in range(first, len(wanted)) if wanted[number][0] < segment[1]]
        best = max(near, key=lambda number: _shared(segment, wanted[number]), default=None)
        if best is not None and best not in taken and _shared(segment, wanted[best]) >= OVERLAP:
            right += 1
            taken.add(best)
    return right, len(found), len(wanted)


def _shared(one: Run, other: Run) -> float:
    """What two segments have in common, of what they cover together; 0 of different labels."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return 0.0 if one[2] != other[2] else common / (max(one[1], other[1]) - min(one[0], other[0]))
