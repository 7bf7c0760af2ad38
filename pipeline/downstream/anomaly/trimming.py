"""Training on rows with unlabelled anomalies among them: a share of the rows, the most unusual, is left out.

    rows ─► FOLDS parts, each scored by a network that learned from the others
         ─► the CORE with the lowest scores: few anomalies are left, and not all that is normal
         ─► all rows scored by a network that learned from the core
         ─► all but the share with the highest scores: what the detector learns from, and is measured against

It is a trimmed estimator, whose share is guessed from the expected number of anomalies; not all of them are the most
unusual rows, so it may be larger. The second pass is the concentration step of the minimum covariance determinant
(Rousseeuw & Van Driessen 1999), which starts from half of the rows, too. A network learns to rebuild the anomalies
among its own rows, so rows are scored by networks that have not seen them. No labels are used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FOLDS = 2
CORE = 0.5  # of the rows

Judge = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(rows to learn from, rows to score, number of the network) → scores."""


def without_highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Sorted indices of the scores [n] without the round(share · n) highest."""
    num_left = len(scores) - round(share * len(scores))
    return np.sort(np.argsort(scores, kind="stable")[:num_left])


def remaining(count: int, share: float, judge: Judge) -> np.ndarray:
    """Indices of those of `count` rows that remain when a share is trimmed; the rows must be in random order."""
    rows = np.arange(count)
    scores = np.empty(count)
    for fold in range(FOLDS):
        in_fold = rows % FOLDS == fold
        scores[in_fold] = judge(rows[~in_fold], rows[in_fold], fold)
    core = without_highest(scores, 1 - CORE)
    return without_highest(judge(core, rows, FOLDS), share)
