"""Thresholds: rows with scores above are flagged.

    by_quantile   an order statistic of held-out normal scores. With the k-th smallest of n, a new normal row is flagged
                  with probability at most (n + 1 − k)/(n + 1) (Vovk et al. 2005, split conformal prediction)
    by_tail       peaks over threshold: a generalised Pareto distribution fitted to the excesses of the largest held-out
                  scores (Pickands 1975; Siffer et al. 2017), which extends beyond the largest of them
    by_labels     the best F1 on rows with labels, if there are any

Held-out rows are normal ones that were not trained on; with unlabelled anomalies among them, guarantees refer to rows
with the same mixture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from data_prep.errors import UserError

CONFIDENCE = 0.95
TAIL = 0.1  # share of the held-out scores that are its tail
LEAST_TAIL = 20  # scores that a tail is fitted to, where half of them are as many


class Threshold(NamedTuple):
    """Rows with a score above `value` are flagged."""

    value: float
    promised: float | None
    """Upper bound of the expected share of normal rows flagged; None without a guarantee."""


def by_quantile(normal: np.ndarray, false_alarms: float) -> Threshold:
    """The lowest order statistic of held-out normal scores [n] that guarantees `false_alarms`, or else the largest.

    The guarantee needs n ≥ 1/false_alarms − 1; with fewer rows the largest score guarantees 1/(n + 1).
    """
    ranked = np.sort(_finite(normal))
    count = len(ranked)
    k = _rank(count, false_alarms)
    return Threshold(float(ranked[k - 1]), (count + 1 - k) / (count + 1))


def interval(count: int, false_alarms: float) -> tuple[float, float]:
    """Where the share of new normal rows above `by_quantile` of `count` held-out scores lies, with 95 % probability.

    With the k-th smallest of n scores it has the beta distribution of n + 1 − k and k (Vovk 2012), whatever the scores'
    own, if they have no ties; ties make it smaller.
    """
    from scipy.stats import beta

    k = _rank(count, false_alarms)
    low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], count + 1 - k, k)
    return float(low), float(high)


def of_share(flagged: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `flagged` of `count` rows were seen (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    outside = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(outside, flagged, count - flagged + 1)) if flagged else 0.0
    return low, float(beta.ppf(1 - outside, flagged + 1, count - flagged)) if flagged < count else 1.0


def by_tail(normal: np.ndarray, false_alarms: float) -> Threshold:
    """Where the fitted tail of held-out normal scores [n ≥ 2] has `false_alarms` beyond it.

    For a share larger than the tail's, it is the order statistic. Scores equal to the beginning of the tail are not
    part of it; a tail of equal scores gives the largest.
    """
    from scipy.stats import genpareto

    ranked = np.sort(_finite(normal))
    count = len(ranked)
    if count < 2:
        raise UserError("a tail needs at least 2 held-out scores; hold out more normal rows.")
    size = max(round(TAIL * count), min(LEAST_TAIL, count // 2))
    begins = ranked[count - size - 1]
    excess = ranked[ranked > begins] - begins
    size = len(excess)  # fewer where scores are equal
    if false_alarms >= size / count:
        return by_quantile(normal, false_alarms)
    if excess[0] == excess[-1]:
        return Threshold(float(ranked[-1]), None)
    unit = float(excess.mean())  # the fit is of numbers near 1, whatever the scores' scale
    shape, _, scale = genpareto.fit(excess / unit, floc=0)
    return Threshold(float(begins + unit * genpareto.isf(false_alarms * count / size, shape, scale=scale)), None)


def by_labels(scores: np.ndarray, anomalous: np.ndarray) -> Threshold:
    """The threshold with the best F1 on scores [n] and labels [n]; the highest among equals.

    It lies half-way between two scores, and below the upper one even if no number is between them.
    UserError where all rows are of one class.
    """
    scores, anomalous = _finite(scores), np.asarray(anomalous, bool)
    if anomalous.all() or not anomalous.any():
        raise UserError("a threshold by labels needs normal rows and anomalies; give both, or choose a quantile.")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(anomalous[order])
    flagged = np.arange(1, len(scores) + 1)
    f1 = 2 * hits / (flagged + anomalous.sum())
    possible = np.append(np.diff(ranked) < 0, True)  # equal scores are flagged together
    last = int(np.argmax(np.where(possible, f1, -1)))
    below = np.nextafter(ranked[last], -np.inf)  # the largest value by which the lowest of those flagged is
    if last + 1 == len(ranked):
        return Threshold(float(below), None)
    return Threshold(float(min(ranked[last] / 2 + ranked[last + 1] / 2, below)), None)


def _rank(count: int, false_alarms: float) -> int:
    """The order statistic of `by_quantile`, from 1."""
    return min(math.ceil((count + 1) * (1 - false_alarms) - 1e-9), count)


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if not len(scores) or not np.isfinite(scores).all():
        raise UserError("a threshold needs finite scores of at least one row; hold out normal rows.")
    return scores
