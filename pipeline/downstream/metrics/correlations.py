"""Metrics of numbers: Pearson and Spearman correlation in percent, equal to scipy's.

Constant predictions, for which scipy returns nan, score 0: they order nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Column, Measured, Values, check_rows

_NOTHING = 1e-12  # variance below this is rounding error: values are scaled to unit variance


def pearson(truth: Column, predicted: Column) -> Measured:
    """Pearson's r."""
    x, y = _scaled(truth, "truth", predicted), _scaled(predicted, "predicted", truth)

    def value(weights: np.ndarray) -> Values:
        return {"pearson": 100 * _correlation(weights, x, y)}

    return Measured(len(x), value)


def spearman(truth: Column, predicted: Column) -> Measured:
    """Spearman's ρ: Pearson's r of ranks; ties share their mean rank."""
    for which, values, others in (("truth", truth, predicted), ("predicted", predicted, truth)):
        _scaled(values, which, others)  # refuses what cannot be ranked
    ranks = [_ranker(np.asarray(values, np.float64)) for values in (truth, predicted)]

    def value(weights: np.ndarray) -> Values:
        weights = np.asarray(weights, np.float64)
        return {"spearman": 100 * _correlation(weights, *(rank(weights) / len(truth) for rank in ranks))}

    return Measured(len(truth), value)


def _scaled(values: Column, which: str, others: Column) -> np.ndarray:
    """The values, scaled to mean 0 and deviation 1. UserError if one is not finite, or if truth is constant."""
    check_rows(values, others)
    array = np.asarray(values, np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size and which == "predicted":
        raise UserError(
            f"{bad.size} of {len(array)} predictions are not finite, the first in row {bad[0]}: the network diverged; "
            "lower its learning rate."
        )
    if bad.size:
        raise UserError(f"the score of row {bad[0]} is {array[bad[0]]}; expected a number.")
    if np.ptp(array) == 0:
        if which == "truth":
            rows = "the only row has" if len(array) == 1 else f"all {len(array)} rows have"
            raise UserError(f"{rows} the score {array[0]:g}; a correlation needs different ones.")
        return np.zeros_like(array)
    array = array - array.mean()
    return array / array.std()


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of x and y [..., rows] with integer weights [..., rows]; 0 where one of them is constant."""
    weights = np.asarray(weights, np.float64)
    total = weights.sum(-1)
    mean_x, mean_y = ((weights * values).sum(-1) / total for values in (x, y))
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    covariance = (weights * x * y).sum(-1)
    spread_x, spread_y = ((weights * values**2).sum(-1) for values in (x, y))
    defined = np.minimum(spread_x, spread_y) > _NOTHING * total
    return np.divide(covariance, np.sqrt(spread_x * spread_y), out=np.zeros_like(covariance), where=defined)


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [..., rows] to the ranks of rows that are repeated that often; ties share a rank."""
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    group = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(values)))

    def ranks(weights: np.ndarray) -> np.ndarray:
        copies = np.add.reduceat(weights[..., order], begins, axis=-1)
        return (np.cumsum(copies, axis=-1) - copies + (copies + 1) / 2)[..., group]

    return ranks
