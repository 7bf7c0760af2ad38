"""Transforms of single columns to features and back.

Each is a frozen dataclass that JSON represents exactly:

    features      names of its features
    range         and their range in the training rows, where that is of numbers or dates; else ANY
    apply         an Arrow column → float64 [R, features]
    invert        and back
    outside       how far values lie outside of the training values, float64 [R] (`data_prep.tables.outside`)
    how_outside   says it in words
    unknown       how far outside a value of another kind lies

No value is an error: categories that are not in the training rows become "other", and numbers further than REACH widths
of the training range beyond it are taken to be there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from data_prep.arrow import pc
from data_prep.corpus.schema import ARROW, ColumnKind
from data_prep.errors import UserError
from data_prep.tables import outside
from data_prep.tables.values import dates, numbers, texts

REACH = 10  # widths of the training range
ANY = (-np.inf, np.inf)
MISSING, OTHER = "missing", "other"
_DAY = 86_400_000_000  # µs
_SIN_COS = ("sin", "cos")


@dataclass(frozen=True)
class Scaled:
    """Numbers: optional log, then (x − shift) · factor or, with knots, the share of training values below x.

    `knots` are ascending, and `ranks` [same] go from 0 to 1. Missing values are replaced by `fill` before scaling.
    """

    name: str
    log: bool
    fill: float
    shift: float
    factor: float
    knots: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()
    indicator: bool = False
    constant: float | None = None
    """The only value, if there is just one; then the indicator is the only feature."""
    low: float = 0.0
    high: float = 0.0
    """The training range, after the log."""
    count: int = 0
    """Number of training values that the range rests on."""
    gaps: bool = False
    """Whether training values were missing."""
    whole: bool = False
    """Whether all training values are whole numbers, which then come back whole."""
    kind: Literal["numeric"] = "numeric"
    unknown: ClassVar = outside.UNKNOWN

    @property
    def features(self) -> list[str]:
        return [self.name] * (self.constant is None) + [f"{self.name}: {MISSING}"] * self.indicator

    def apply(self, column: pa.Array) -> np.ndarray:
        values, bad = numbers(column)
        if bad.any():
            example = column[int(np.flatnonzero(bad)[0])].as_py()
            raise UserError(f"column {self.name!r}: expected numbers, found {str(example)[:40]!r}; mend the rows")
        missing = np.isnan(values)
        parts = []
        if self.constant is None:
            values = np.where(missing, self.fill, self._logged(values))
            parts.append(self._scaled(values))
        if self.indicator:
            parts.append(missing.astype(np.float64))
        return np.stack(parts, 1)

    @property
    def range(self) -> list[tuple[float, float]]:
        ends = [tuple(self._scaled(np.array([self.low, self.high])).tolist())] if self.constant is None else []
        return [*ends, *[ANY] * self.indicator]

    def _logged(self, values: np.ndarray) -> np.ndarray:
        return symmetric_log(values) if self.log else values

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if self.knots:
            return np.interp(values, self.knots, self.ranks)
        with np.errstate(over="ignore"):
            return (np.clip(values, *_reach(self.low, self.high)) - self.shift) * self.factor

    def outside(self, column: pa.Array) -> np.ndarray:
        values = numbers(column)[0]
        missing = outside.of_missing(np.isnan(values), self.gaps)
        if self.constant is not None:
            return missing + outside.of_constant(values, self.constant, max(1.0, abs(self.constant)))
        return missing + outside.of_range(self._logged(values), self.low, self.high, self.count)

    def how_outside(self, value: pa.Scalar) -> str:
        if self.constant is not None:
            return outside.other_value(value, self.constant)
        low, high = symmetric_exp(np.array([self.low, self.high])) if self.log else (self.low, self.high)
        return outside.beyond(value, float(low), float(high))

    def invert(self, features: np.ndarray) -> pa.Array:
        if self.constant is not None:
            values = np.full(len(features), self.constant)
        else:
            values = features[:, 0].astype(np.float64)
            if self.knots:
                values = np.interp(values, self.ranks, self.knots)
            else:
                values = values / self.factor + self.shift
            values = symmetric_exp(values) if self.log else values
            values = np.rint(values) if self.whole else values
        return pa.array(values, pa.float64(), mask=features[:, -1] > 0.5 if self.indicator else None)


@dataclass(frozen=True)
class OneHot:
    """Categories: one feature per frequent level in `levels`, one for all others, and optionally one for missing."""

    name: str
    levels: tuple[str, ...]
    indicator: bool = False
    rare: tuple[str, ...] = ()
    """Other levels of training rows."""
    new_share: float = 0.0
    """Share of training rows whose level no other one has."""
    gaps: bool = False
    """Whether training values were missing."""
    kind: Literal["categorical"] = "categorical"
    unknown: ClassVar = outside.UNKNOWN

    @property
    def features(self) -> list[str]:
        levels = [f"{self.name}={level}" for level in self.levels]
        return [*levels, f"{self.name}: {OTHER}"] + [f"{self.name}: {MISSING}"] * self.indicator

    @property
    def range(self) -> list[tuple[float, float]]:
        return [ANY] * len(self.features)

    def apply(self, column: pa.Array) -> np.ndarray:
        column = texts(column)
        other_level = len(self.levels)
        place = np.array(pc.fill_null(pc.index_in(column, pa.array(self.levels, pa.string())), other_level), np.int64)
        place[np.asarray(column.is_null())] = other_level + self.indicator
        return np.eye(other_level + 1 + self.indicator)[place]

    @cached_property
    def _known(self) -> pa.Array:
        return pa.array([*self.levels, *self.rare], pa.string())

    def outside(self, column: pa.Array) -> np.ndarray:
        column = texts(column)
        missing = outside.of_missing(np.asarray(column.is_null()), self.gaps)
        return missing + outside.of_levels(column, self._known, self.new_share)

    def how_outside(self, value: pa.Scalar) -> str:
        return outside.new(value)

    def invert(self, features: np.ndarray) -> pa.Array:
        """The level of the largest feature: one of `levels`, "other", or null for missing."""
        names = pa.array([*self.levels, OTHER, *[None] * self.indicator], pa.string())
        return names.take(pa.array(np.argmax(features, 1)))


@dataclass(frozen=True)
class Calendar:
    """Dates: (t − shift) · factor in days, and month, weekday and (if there are times of day) hour as sine and cosine.

    Missing values get the mean date and the centre of each circle.
    """

    name: str
    shift: float  # µs since 1970
    factor: float  # per day
    hours: bool
    indicator: bool = False
    low: float = 0.0
    high: float = 0.0
    """The training range, in µs."""
    count: int = 0
    """Number of training values that the range rests on."""
    gaps: bool = False
    """Whether training values were missing."""
    kind: Literal["date"] = "date"
    unknown: ClassVar = outside.UNKNOWN

    @property
    def features(self) -> list[str]:
        circles = ["month", "weekday", *["hour"] * self.hours]
        turns = [f"{self.name}: {circle} {turn}" for circle in circles for turn in _SIN_COS]
        return [self.name, *turns, *[f"{self.name}: {MISSING}"] * self.indicator]

    @property
    def range(self) -> list[tuple[float, float]]:
        low, high = ((end - self.shift) / _DAY * self.factor for end in (self.low, self.high))
        return [(low, high), *[ANY] * (len(self.features) - 1)]

    def apply(self, column: pa.Array) -> np.ndarray:
        moments, bad = dates(column)
        if bad.any():
            example = column[int(np.flatnonzero(bad)[0])].as_py()
            raise UserError(f"column {self.name!r}: expected dates, found {str(example)[:40]!r}; mend the rows")
        missing = np.asarray(moments.is_null())
        moments = pc.fill_null(moments, pa.scalar(0, pa.timestamp("us")))
        micros = np.array(moments.cast(pa.int64()))
        linear = (np.clip(micros, *_reach(self.low, self.high)) - self.shift) / _DAY * self.factor
        turns = [(np.array(pc.month(moments)) - 1) / 12, np.array(pc.day_of_week(moments)) / 7]
        if self.hours:
            turns.append(micros % _DAY / _DAY)
        angles = 2 * np.pi * np.stack(turns, 1)
        circles = np.stack([np.sin(angles), np.cos(angles)], 2).reshape(len(micros), 2 * len(turns))
        columns = np.column_stack([linear, circles])
        columns[missing] = 0
        return np.column_stack([columns, missing]) if self.indicator else columns

    def outside(self, column: pa.Array) -> np.ndarray:
        moments = dates(column)[0]
        micros = pc.cast(moments.cast(pa.int64()), pa.float64(), safe=False)
        values = np.array(pc.fill_null(micros, float("nan")))
        return outside.of_missing(np.isnan(values), self.gaps) + outside.of_range(
            values, self.low, self.high, self.count
        )

    def how_outside(self, value: pa.Scalar) -> str:
        low, high = (pa.scalar(int(edge), pa.timestamp("us")) for edge in (self.low, self.high))
        return outside.beyond(value, low, high)

    def invert(self, features: np.ndarray) -> pa.Array:
        """The date of the linear feature, to the second."""
        with np.errstate(over="ignore"):
            micros = features[:, 0].astype(np.float64) / self.factor * _DAY + self.shift
        seconds = np.rint(np.clip(micros, -6e16, 2.5e17) / 1e6)  # the years 69 to 9891
        mask = features[:, -1] > 0.5 if self.indicator else None
        return pa.array((seconds * 1e6).astype(np.int64), pa.int64(), mask=mask).cast(pa.timestamp("us"))


@dataclass(frozen=True)
class Dropped:
    """A column without information: it has no features, and is restored as its only value."""

    name: str
    type: ColumnKind
    value: float | str | None
    """The only number or category, or the µs of a date; None if it was always missing or is unknown."""
    why: str
    gaps: bool = False
    """Whether some training values were missing."""
    watched: bool = True
    """Whether other values than the only one are outside; they are not where every row has its own."""
    kind: Literal["dropped"] = "dropped"
    indicator = False

    @property
    def features(self) -> list[str]:
        return []

    @property
    def range(self) -> list[tuple[float, float]]:
        return []

    def apply(self, column: pa.Array) -> np.ndarray:
        return np.empty((len(column), 0))

    def outside(self, column: pa.Array) -> np.ndarray:
        if not self.watched:
            return np.zeros(len(column))
        return outside.of_only_value(column, self.type, self.value, self.gaps)

    @property
    def unknown(self) -> float:
        return outside.UNKNOWN if self.watched else 0.0

    def how_outside(self, value: pa.Scalar) -> str:
        only = self.value
        return outside.other_value(value, pa.scalar(int(only), ARROW["date"]) if self.type == "date" and only else only)

    def invert(self, features: np.ndarray) -> pa.Array:
        value = int(self.value) if self.type == "date" and self.value is not None else self.value
        return pa.array([value] * len(features), pa.int64() if self.type == "date" else ARROW[self.type]).cast(
            ARROW[self.type]
        )


ColumnTransform = Scaled | OneHot | Calendar | Dropped
_KINDS: dict[str, type[ColumnTransform]] = {
    "numeric": Scaled,
    "categorical": OneHot,
    "date": Calendar,
    "dropped": Dropped,
}


def to_json(column: ColumnTransform) -> dict[str, Any]:
    return asdict(column)


def of_json(value: dict[str, Any]) -> ColumnTransform:
    """The inverse of `to_json`; KeyError, TypeError or ValueError for other values."""
    settings: dict[str, Any] = {
        name: tuple(setting) if isinstance(setting, list) else setting for name, setting in value.items()
    }
    kind = _KINDS[settings["kind"]]
    kind(**settings)  # no others
    return TypeAdapter(kind).validate_python(settings)


def _reach(low: float, high: float) -> tuple[float, float]:
    """The range in which numbers can be told apart by their feature."""
    beyond = REACH * (high - low)
    return low - beyond, high + beyond


def symmetric_log(values: np.ndarray) -> np.ndarray:
    """sign(x) · log(1 + |x|)."""
    return np.sign(values) * np.log1p(np.abs(values))


def symmetric_exp(values: np.ndarray) -> np.ndarray:
    """The inverse of `symmetric_log`."""
    with np.errstate(over="ignore"):
        return np.sign(values) * np.minimum(np.expm1(np.abs(values)), np.finfo(np.float64).max)
