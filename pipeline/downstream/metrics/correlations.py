"""Metrics of numbers: Pearson's and Spearman's correlation, in percent, as scipy has them.

Predictions that are all alike put rows into no order: their correlation is 0. (scipy gives nan.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Column, Measured, Values, check_rows

_NOTHING = 1e-12  # a variance that is rounding, of values that were scaled to 1


def pearson(truth: Column, predicted: Column) -> Measured:
    """Pearson's r."""
    x, y = _scaled(truth, "truth", predicted), _scaled(predicted, "predicted", truth)

    def value(weights: np.ndarray) -> Values:
        return {"pearson": 100 * _correlation(weights, x, y)}

    return Measured(len(x), value)


def spearman(truth: Column, predicted: Column) -> Measured:
    """Spearman's ρ: Pearson's r of ranks, those of equal values being their mean."""
    for which, values, others in (("truth", truth, predicted), ("predicted", predicted, truth)):
        _scaled(values, which, others)  # refuses what cannot be ranked
    ranks = [_ranker(np.asarray(values, np.float64)) for values in (truth, predicted)]

    def value(weights: np.ndarray) -> Values:
        weights = np.asarray(weights, np.float64)
        return {"spearman": 100 * _correlation(weights, *(rank(weights) / len(truth) for rank in ranks))}

    return Measured(len(truth), value)


def _scaled(values: Column, which: str, others: Column) -> np.ndarray:
    """The values, with mean 0 and standard deviation 1. UserError for what is no number, or for one truth for all."""
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
            raise UserError(f"all {len(array)} rows have the score {array[0]:g}; a correlation needs different ones.")
        return np.zeros_like(array)
    array = array - array.mean()
    return array / array.std()


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of x and y [..., rows], each row counted `weights` [..., rows] times; 0 where one is constant."""
    weights = np.asarray(weights, np.float64)
    total = weights.sum(-1)
    mean_x, mean_y = ((weights * values).sum(-1) / total for values in (x, y))
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    covariance = (weights * x * y).sum(-1)
    spread_x, spread_y = ((weights * values**2).sum(-1) for values in (x, y))
    defined = np.minimum(spread_x, spread_y) > _NOTHING * total
    return np.divide(covariance, np.sqrt(spread_x * spread_y), out=np.zeros_like(covariance), where=defined)


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """weights [..., rows] → ranks of the rows among as many copies of each; equal ones have the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    group = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(values)))

    def ranks(weights: np.ndarray) -> np.ndarray:
        copies = np.add.reduceat(weights[..., order], begins, axis=-1)
        return (np.cumsum(copies, axis=-1) - copies + (copies + 1) / 2)[..., group]

    return ranks
