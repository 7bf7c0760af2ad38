"""Learning from rows of which some are anomalies that nobody marked: a share of them, the most unusual, is left out.

    rows ─► FOLDS parts, each scored by a network that learned from the others
         ─► the CORE with the lowest scores: few anomalies are left, and not all that is normal
         ─► all rows scored by a network that learned from the core
         ─► all but the share with the highest scores: what the detector learns from, and is measured against

It is a trimmed estimator, for which the share has to be guessed, from how many anomalies there are said to be; not all
of them are the most unusual rows, so it may well be larger. Its second pass is the concentration step of
the minimum covariance determinant (Rousseeuw & Van Driessen 1999), which starts from half of the rows, too. A network
learns to rebuild the anomalies among its own rows, so those are scored by networks that never saw them. No label is
looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FOLDS = 2
CORE = 0.5  # of the rows

Judge = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(rows to learn from, rows to score, number of the network) → scores."""


def without_highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Places, in order, of all but the highest of the scores [n]: round(share · n) of them are left out."""
    num_left = len(scores) - round(share * len(scores))
    return np.sort(np.argsort(scores, kind="stable")[:num_left])


def remaining(count: int, share: float, judge: Judge) -> np.ndarray:
    """Places of the rows, of `count`, that are left when a share is trimmed; their order must mean nothing."""
    rows = np.arange(count)
    scores = np.empty(count)
    for fold in range(FOLDS):
        in_fold = rows % FOLDS == fold
        scores[in_fold] = judge(rows[~in_fold], rows[in_fold], fold)
    core = without_highest(scores, 1 - CORE)
    return without_highest(judge(core, rows, FOLDS), share)
