"""A metric bound to certain rows, as a function of how often each row counts.

The ordinary score counts every row once. A bootstrap evaluates thousands of resamples of the same rows; as most metrics
are functions of sums over rows, one matrix product covers all resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Column = Sequence[Any] | np.ndarray
"""A value for each row."""
Values = Mapping[str, np.ndarray]
"""Percentages by name: the metric itself first, then details such as precision and recall."""


@dataclass(frozen=True)
class Sums:
    """parts: [rows, k], the terms that are summed over rows. value: sums [..., k] → values [...] by name."""

    parts: np.ndarray
    value: Callable[[np.ndarray], Values]


@dataclass(frozen=True)
class Measured:
    """A metric of `rows` rows.

    of: weights [..., rows] → values [...] by name. right: [rows] bool, if every row is simply right or wrong. sums: for
    a metric that is a function of sums over rows; rows with equal parts are then interchangeable.
    """

    rows: int
    of: Callable[[np.ndarray], Values]
    right: np.ndarray | None = None
    sums: Sums | None = None

    def scores(self) -> dict[str, float]:
        """The score of all rows, each counted once."""
        return {name: float(value) for name, value in self.of(np.ones(self.rows)).items()}


def of_sums(parts: np.ndarray, value: Callable[[np.ndarray], Values], right: np.ndarray | None = None) -> Measured:
    """A metric that is a function of sums over rows; see `Sums`."""
    return Measured(
        len(parts), lambda weights: value(np.asarray(weights, np.float64) @ parts), right, Sums(parts, value)
    )


def percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 part / whole, and 0 where the whole is 0."""
    return 100 * np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def f1_of(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 in percent from the numbers of correct, predicted and true items; 0 if there are none."""
    return percent(2 * right, predicted + true)


def check_rows(truth: Column, predicted: Column) -> None:
    """ValueError unless there is at least one row, and one prediction per row."""
    if len(truth) != len(predicted) or not len(truth):
        raise ValueError(f"{len(truth)} rows and {len(predicted)} predictions; expected one each, and at least one")
