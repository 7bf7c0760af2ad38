"""Kinds of table columns, and parsing values of each kind.

    numeric       float64: whatever Arrow reads as a number ("1", "-2.5e3", "+.5"); true and false of a typed file are
                  categorical
    date          timestamp[us] without a zone (times with a zone are converted to UTC): ISO 8601, "2024-05-01",
                  "2024-05-01 13:30", "2024-05-01T13:30:00.25+02:00"
    categorical   string

White space around values is ignored. Empty values and those in `MISSING` are missing (null). In text files, a column is
numeric if all of its values in all files are numbers or missing, a date if all are dates or missing, and otherwise
categorical; a column without values is numeric. Typed files (Parquet, Arrow, ARFF) state the kind.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.schema import ColumnKind

MISSING = ("", "NA", "NaN", "nan", "NAN", "?", "null", "Null", "NULL")
CALLED: dict[ColumnKind, str] = {"numeric": "a number", "categorical": "a value", "date": "an ISO 8601 date"}
TICKS = {"s": 1, "ms": 10**3, "us": 10**6}  # per second
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 and 9999, which Python's calendar has
_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)$"


@functools.cache  # created lazily: Arrow imports pandas with its first array
def _missing() -> pa.Array:
    return pa.array(MISSING)


@functools.cache
def _edges() -> tuple[pa.Scalar, pa.Scalar]:
    """The first moment of the calendar, and the first moment after it."""
    first, end = (pa.scalar(seconds * 10**6, pa.timestamp("us")) for seconds in (FIRST, LAST + 1))
    return first, end


def tidy(column: pa.Array) -> pa.Array:
    """Strings without surrounding white space; missing values become null."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(trimmed, _missing()), pa.scalar(None, pa.string()), trimmed)


def native(column: pa.Array) -> tuple[pa.Array, ColumnKind | None] | None:
    """A typed file's column as float64, timestamp[us] or string, and the kind of its type (None for strings).

    None if the type is not supported: lists, structs, bytes, times of day.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return tidy(column.cast(pa.string())), None
    if pa.types.is_null(kind):
        return column.cast(pa.string()), None
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()), "categorical"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pc.cast(column, pa.float64(), safe=False), "numeric"  # unsafe: integers above 2⁵³ are rounded
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _moments(column), "date"
    return None


def _moments(column: pa.Array) -> pa.Array:
    """timestamp[us] of dates and timestamps. Values outside the years 1 to 9999 are clipped to just outside of them."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # range 1677 to 2262
        return pc.cast(pc.cast(column, pa.timestamp("us", kind.tz), safe=False), pa.timestamp("us"))
    if pa.types.is_date32(kind):
        ticks, second = pc.cast(column.cast(pa.int32()), pa.int64()), Fraction(1, 86_400)
    else:
        ticks, second = column.cast(pa.int64()), Fraction(TICKS["ms" if pa.types.is_date(kind) else kind.unit])
    ticks = pc.max_element_wise(ticks, int(FIRST * second) - 1, skip_nulls=False)
    ticks = pc.min_element_wise(ticks, int((LAST + 1) * second), skip_nulls=False)
    return pc.cast(pc.multiply(ticks, int(10**6 / second)), pa.timestamp("us"))


def numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [R], NaN where missing; bool [R], true where not a number) of a column of any kind."""
    if pa.types.is_timestamp(column.type):
        return np.full(len(column), np.nan), np.asarray(column.is_valid())
    bad = np.zeros(len(column), bool)
    try:
        cast = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        is_number = pc.fill_null(pc.match_substring_regex(column, _NUMBER), True)
        bad = ~np.asarray(is_number)
        cast = pc.cast(pc.if_else(is_number, column, pa.scalar(None, pa.string())), pa.float64())
    return np.array(pc.fill_null(cast, float("nan"))), bad


def dates(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(timestamp[us]; bool [R], true where not a date) of a column of any kind."""
    if pa.types.is_timestamp(column.type):
        first, end = _edges()
        is_in_range = pc.and_(pc.greater_equal(column, first), pc.less(column, end))
        return column, ~np.asarray(pc.fill_null(is_in_range, True))
    column = column.cast(pa.string())
    timestamps = _all_dates(column)
    if timestamps is not None:
        return timestamps, np.zeros(len(column), bool)
    encoded = column.dictionary_encode()  # parsed one by one: some may have a zone, others not, or are no dates
    dates_of_levels = [_all_dates(encoded.dictionary.slice(number, 1)) for number in range(len(encoded.dictionary))]
    values = pa.array([None if date is None else date[0].as_py() for date in dates_of_levels], pa.timestamp("us"))
    timestamps = values.take(encoded.indices)
    return timestamps, np.asarray(column.is_valid()) & np.asarray(timestamps.is_null())


def _all_dates(column: pa.Array) -> pa.Array | None:
    for unit in ("us", "ns"):  # pandas writes nanoseconds, which have a smaller range
        for zone in (None, "UTC"):
            try:
                return pc.cast(pc.cast(column, pa.timestamp(unit, zone)), pa.timestamp("us"), safe=False)
            except pa.ArrowInvalid:
                continue
    return None


def texts(column: pa.Array) -> pa.Array:
    """Strings of a column of any kind; 1.0 becomes "1"."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        column = pc.add(column, 0.0)  # turns -0 into 0
    return column.cast(pa.string())


class Evidence:
    """Infers the kind of a column from its values, batch by batch."""

    def __init__(self, declared: ColumnKind | None = None) -> None:
        self._declared: ColumnKind | None = declared
        self._may_be: set[ColumnKind] = {"numeric", "date"}
        self._empty = True

    def see(self, column: pa.Array) -> None:
        if self._declared is not None or column.null_count == len(column):
            return
        self._empty = False
        if "numeric" in self._may_be and numbers(column)[1].any():
            self._may_be.discard("numeric")
        if "date" in self._may_be:
            begin = column.slice(0, 64)  # a quick check that rules out most columns that are no dates
            if dates(begin)[1].any() or dates(column)[1].any():
                self._may_be.discard("date")

    @property
    def kind(self) -> ColumnKind | None:
        """The kind; None if there were no values."""
        if self._declared is not None:
            return self._declared
        if self._empty:
            return None
        if "numeric" in self._may_be:
            return "numeric"
        return "date" if "date" in self._may_be else "categorical"
