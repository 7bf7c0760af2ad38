"""Calibration of confidence: among predictions of confidence c, a share c should be right (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Column, check_rows

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Predictions with a confidence above `low` and up to `high`; the first bin includes 0."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Share of right predictions."""


@dataclass(frozen=True)
class Calibration:
    """error: expected calibration error in percent, the mean |accuracy − confidence| over predictions.

    bins: those that are not empty.
    """

    error: float
    bins: list[Bin]


def calibration(confidence: Column, right: Column, num_bins: int = BINS) -> Calibration:
    """The expected calibration error over equally wide bins, and the bins of a reliability diagram.

    confidence: [rows], the probability of each predicted label. right: [rows], whether it is right. UserError for
    confidences outside of 0 to 1.
    """
    check_rows(confidence, right)
    values, hits = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        first = int(np.argmax(outside))
        raise UserError(f"the confidence of row {first} is {values[first]}; expected a probability.")
    edges = np.linspace(0, 1, num_bins + 1)
    which = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, num_bins - 1)
    bins = []
    for place, (low, high) in enumerate(pairwise(edges.tolist())):
        if (of_bin := which == place).any():
            means = (float(column[of_bin].mean()) for column in (values, hits))
            bins.append(Bin(low, high, int(of_bin.sum()), *means))
    error = sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / len(values)
    return Calibration(100 * error, bins)
