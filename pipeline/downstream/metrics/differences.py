"""Significance of the difference between two sets of predictions for the same rows.

paired bootstrap   resamples rows, the same for both sides, and recomputes the metric (Efron and Tibshirani 1993;
                   Berg-Kirkpatrick, Burkett, Klein 2012). Seeds are resampled, too, for each side on its own: k − 1
                   of k, which makes the variance of their mean unbiased (Rao and Wu 1988)
McNemar's test     exact two-sided binomial test on the rows that only one side gets right
Holm's correction  for p-values that are read together (Holm 1979)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.rng import key
from pipeline.downstream.metrics.measured import Measured, of_sums

SAMPLES = 5000
LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000  # weights; bounds memory


@dataclass(frozen=True)
class Difference:
    """Second minus first, in percentage points. low, high: confidence interval at LEVEL. p: two-sided."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    first: Sequence[Measured], second: Sequence[Measured], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """The difference of each value of a metric. first, second: one for each seed, all of the same rows in one order.

    p is twice the share of resamples in which the difference has the opposite sign, and never 0. ValueError if the
    numbers of rows differ.
    """
    rows = {measured.rows for measured in (*first, *second)}
    if len(rows) != 1 or not first or not second:
        raise ValueError(f"expected the same rows for each seed of both, found {sorted(rows)}")
    random = np.random.default_rng(key(seed, "paired bootstrap"))
    copies, grouped = _grouped(first, second)
    chunk = max(1, _CELLS_AT_ONCE // len(copies))
    drawn: dict[str, list[np.ndarray]] = {}
    for begin in range(0, samples, chunk):
        count = min(chunk, samples - begin)
        weights = random.multinomial(copies.sum(), copies / copies.sum(), count).astype(np.float64)
        before, after = (_mean_of_seeds(side, weights, random) for side in grouped)
        for name in before:
            drawn.setdefault(name, []).append(after[name] - before[name])
    scores = [[of_seed.scores() for of_seed in side] for side in (first, second)]
    before, after = ({name: np.mean([values[name] for values in side]) for name in drawn} for side in scores)
    means = {name: float(after[name] - before[name]) for name in drawn}
    return {name: _difference(means[name], np.concatenate(parts)) for name, parts in drawn.items()}


def _grouped(*sides: Sequence[Measured]) -> tuple[np.ndarray, Sequence[Sequence[Measured]]]:
    """Metrics over the distinct rows, and the number of copies of each; rows are equal if all seeds and sides agree.

    Resampling the counts of distinct rows has the same distribution as resampling rows, and labels leave few of them.
    """
    parts = [of_seed.sums.parts for side in sides for of_seed in side if of_seed.sums is not None]
    if len(parts) < sum(map(len, sides)):
        return np.ones(sides[0][0].rows, np.int64), sides
    _, rows, copies = np.unique(np.concatenate(parts, axis=-1), axis=0, return_index=True, return_counts=True)
    grouped = [[of_sums(of.sums.parts[rows], of.sums.value) for of in side if of.sums is not None] for side in sides]
    return copies, grouped


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The p-value of both sides being right equally often. first, second: [rows] bool, whether each row is right."""
    from scipy.stats import binomtest

    only_first, only_second = np.count_nonzero(first & ~second), np.count_nonzero(second & ~first)
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for their number: controls the family-wise error rate."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1)
    result = np.empty(len(p_values))
    result[order] = corrected
    return result.tolist()


def _mean_of_seeds(side: Sequence[Measured], weights: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values by name for resamples of rows, `weights` [resamples, rows], averaged over resampled seeds."""
    num_seeds, count = len(side), len(weights)
    shares = np.ones((count, 1))
    if num_seeds > 1:
        shares = random.multinomial(num_seeds - 1, np.full(num_seeds, 1 / num_seeds), count) / (num_seeds - 1)
    values = [of_seed.of(weights) for of_seed in side]
    return {name: np.sum([of_seed[name] * share for of_seed, share in zip(values, shares.T, strict=True)], 0)
            for name in values[0]}  # fmt: skip


def _difference(value: float, drawn: np.ndarray) -> Difference:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    fewer = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    return Difference(value, float(low), float(high), min(1.0, 2 * (fewer + 1) / (len(drawn) + 1)))
