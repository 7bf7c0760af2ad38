"""What a family of metrics gives: the metric of certain rows as a function of how often each of them counts.

A score is that of every row once. A bootstrap asks for thousands of drawings of the same rows: most metrics are a
function of sums over rows, so one matrix product answers all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Column = Sequence[Any] | np.ndarray
"""A value for each row."""
Values = Mapping[str, np.ndarray]
"""Percentages by name; the first one is the metric's own, others say more about it."""


@dataclass(frozen=True)
class Sums:
    """parts: [rows, k], what of each row is summed. value: sums [..., k] → values [...] by name."""

    parts: np.ndarray
    value: Callable[[np.ndarray], Values]


@dataclass(frozen=True)
class Measured:
    """A metric of `rows` rows.

    of: weights [..., rows] → values [...] by name. right: [rows] bool, where a row is right or wrong, not in between.
    sums: what it is a function of, if it is one of sums: rows with the same parts are alike then.
    """

    rows: int
    of: Callable[[np.ndarray], Values]
    right: np.ndarray | None = None
    sums: Sums | None = None

    def scores(self) -> dict[str, float]:
        """Of all rows, each once."""
        return {name: float(value) for name, value in self.of(np.ones(self.rows)).items()}


def of_sums(parts: np.ndarray, value: Callable[[np.ndarray], Values], right: np.ndarray | None = None) -> Measured:
    """A metric that is a function of sums over rows; see `Sums`."""
    return Measured(
        len(parts), lambda weights: value(np.asarray(weights, np.float64) @ parts), right, Sums(parts, value)
    )


def percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 part / whole; 0 where there is no whole."""
    return 100 * np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def f1_of(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 in percent from counts: of what is right, of all that was predicted, of all that is true; 0 without any."""
    return percent(2 * right, predicted + true)


def check_rows(truth: Column, predicted: Column) -> None:
    """ValueError unless there is a prediction for each row, and a row."""
    if len(truth) != len(predicted) or not len(truth):
        raise ValueError(f"{len(truth)} rows and {len(predicted)} predictions; expected one each, and at least one")
