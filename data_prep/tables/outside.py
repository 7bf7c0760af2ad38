"""How far a value lies outside of a column's training values, which its features may not express.

    0                       within: what training rows had
    c · log₂(1 + d / w)     a number or date d beyond the training range, whose width is w: it never stops growing
    UNKNOWN                 missing, where no training value was; a new category; a value of another kind
    UNKNOWN + log₂(1 + d)   another value than the only one that there was, for numbers by its relative distance d

A range counts for less where it rests on few values: a new one is beyond the greatest of n with probability 1/(n + 1),
whatever their distribution, which surprises by log₂(n + 1) bits. The certainty c is their share of SURE, at most 1.

New categories count for less where they are usual: their probability is estimated by the share of training rows whose
category is in no other row (Good 1953, "The population frequencies of species", formula 9).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.schema import ColumnKind
from data_prep.tables.values import dates, numbers, texts

UNKNOWN = 2.0
SURE = 10.0  # bits: of a range of a thousand values
_MOST = 4096.0  # for infinite numbers: beyond all finite ones
_USUAL_SHARE = 0.01  # of rows with a new category
_DAY = 86_400_000_000  # µs


def of_missing(missing: np.ndarray, gaps: bool) -> np.ndarray:
    """[R], from bool [R]; gaps: whether training values were missing, too."""
    return np.where(missing & (not gaps), UNKNOWN, 0.0)


def of_range(values: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """[R], of numbers [R] that may be NaN; low < high are the extremes of `count` values."""
    certainty = min(1.0, float(np.log2(count + 1)) / SURE)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.maximum(np.maximum(low - values, values - high), 0) / (high - low)
        # log1p: also of a distance that vanishes beside 1
        widths = np.log1p(np.nan_to_num(distance, nan=0.0, posinf=np.inf)) / np.log(2)
        return certainty * np.minimum(widths, _MOST)


def of_constant(values: np.ndarray, only: float, unit: float) -> np.ndarray:
    """[R], of numbers [R] that may be NaN, where there was only one; unit: of a distance of 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.nan_to_num(np.abs(values - only), nan=0.0, posinf=np.inf) / unit
        return np.where(distance > 0, np.minimum(UNKNOWN + np.log2(1 + distance), _MOST), 0.0)


def of_levels(column: pa.Array, known: pa.Array, new_share: float) -> np.ndarray:
    """[R], of strings; new_share: of the training rows, how many had a level of their own."""
    is_new = np.asarray(pc.and_(column.is_valid(), pc.invert(pc.is_in(column, known))))
    return np.where(is_new, UNKNOWN * min(1.0, _USUAL_SHARE / max(new_share, _USUAL_SHARE)), 0.0)


def of_only_value(column: pa.Array, kind: ColumnKind, only: float | str | None, gaps: bool) -> np.ndarray:
    """[R], of a column with one training value, or with none (None)."""
    missing = of_missing(np.asarray(column.is_null()), gaps)
    if only is None:
        return np.where(np.asarray(column.is_valid()), UNKNOWN, 0.0)
    if kind == "categorical":
        return missing + of_levels(texts(column), pa.array([only], pa.string()), 0.0)
    if kind == "date":
        micros = pc.cast(dates(column)[0].cast(pa.int64()), pa.float64(), safe=False)
        return missing + of_constant(np.array(pc.fill_null(micros, float("nan"))), float(only), _DAY)
    return missing + of_constant(numbers(column)[0], float(only), max(1.0, abs(float(only))))


# -- in words ---------------------------------------------------------------------------------------------------------


def beyond(value: pa.Scalar, low: float | pa.Scalar, high: float | pa.Scalar) -> str:
    """A number or date beyond a range, or missing."""
    return f"is {_shown(value)}, beyond {_shown(low)} to {_shown(high)}" if _is_there(value) else _GONE


def new(value: pa.Scalar) -> str:
    """A category that is new, or missing."""
    return f"is {_shown(value)}, which is new" if _is_there(value) else _GONE


def other_value(value: pa.Scalar, only: float | str | pa.Scalar | None) -> str:
    """A value that is not the only one; None: all were missing."""
    if only is None:
        return f"is {_shown(value)}, and was always missing"
    return f"is {_shown(value)}, and was always {_shown(only)}" if _is_there(value) else _GONE


_GONE = "is missing, and never was"


def _is_there(value: pa.Scalar) -> bool:
    return value.is_valid and value.as_py() == value.as_py() if pa.types.is_floating(value.type) else value.is_valid


def _shown(value: Any) -> str:
    if isinstance(value, pa.Scalar):
        return str(texts(pa.array([value]))[0]) if pa.types.is_timestamp(value.type) else _shown(value.as_py())
    if isinstance(value, str):
        return repr(value[:40])
    return f"{value:.10g}" if value % 1 == 0 else f"{value:.4g}"
