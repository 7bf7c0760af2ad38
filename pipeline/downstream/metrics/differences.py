"""Whether two sets of predictions for the same rows differ by more than chance makes.

paired bootstrap   rows are drawn again, the same for both; the metric of all of them is taken anew (Efron and
                   Tibshirani 1993; Berg-Kirkpatrick, Burkett, Klein 2012). Of several seeds, all but one are drawn,
                   too, for each side by itself: with so many the variance of their mean is without bias (Rao and
                   Wu 1988)
McNemar's test     of rows that one side alone has right, exact (two-sided binomial)
Holm's correction  of p-values that are read together (Holm 1979)
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
    """Second minus first, in points. low, high: the interval at LEVEL. p: two-sided."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    first: Sequence[Measured], second: Sequence[Measured], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """The difference of each value of a metric. first, second: one for each seed, all of the same rows in one order.

    p is the share of drawings in which the difference has the other sign, twice, and never 0. ValueError for rows that
    are not equally many.
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
    """Rows that are alike for all seeds of all sides as one, and how many each stands for.

    To draw how often each kind of row comes is to draw rows, and of thousands of labels there are a few kinds.
    """
    parts = [of_seed.sums.parts for side in sides for of_seed in side if of_seed.sums is not None]
    if len(parts) < sum(map(len, sides)):
        return np.ones(sides[0][0].rows, np.int64), sides
    _, rows, copies = np.unique(np.concatenate(parts, axis=-1), axis=0, return_index=True, return_counts=True)
    grouped = [[of_sums(of.sums.parts[rows], of.sums.value) for of in side if of.sums is not None] for side in sides]
    return copies, grouped


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """p of the hypothesis that both are right equally often. first, second: [rows] bool, whether each is right."""
    from scipy.stats import binomtest

    only_first, only_second = np.count_nonzero(first & ~second), np.count_nonzero(second & ~first)
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected: whoever reads all of them errs with the level's probability at most."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1)
    result = np.empty(len(p_values))
    result[order] = corrected
    return result.tolist()


def _mean_of_seeds(side: Sequence[Measured], weights: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values by name of each drawing of rows, `weights` [drawings, rows], averaged over seeds that are drawn, too."""
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
