"""Kinds of table columns, and parsing values of each kind.

    numeric       float64: what Arrow reads as a number ("1", "-2.5e3", "+.5"), and numbers with a currency, thousands
                  or percent sign, durations and times of day in seconds (`data_prep.tables.number_text`); true and
                  false of a typed file are categorical
    date          timestamp[us] without a zone (times with a zone are converted to UTC): ISO 8601, "2024-05-01",
                  "2024-05-01 13:30", "2024-05-01T13:30:00.25+02:00"
    categorical   string

A typed file's values keep their type until they are used (`native`), so that integers and decimals are not rounded
before they are written as text (`texts`) or compared (`beyond_float`): equal values are equal in every format.

White space around values is ignored. Empty values and markers of missing ones (`TableSchema.markers`) are null.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.schema import ColumnKind
from data_prep.tables.number_text import canonical, plain

CALLED: dict[ColumnKind, str] = {"numeric": "a number", "categorical": "a value", "date": "an ISO 8601 date"}
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # per second
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 and 9999, which Python's calendar has
EXACT = 2**53  # up to which float64 has every integer
_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)$"
_SURE_DIGITS = 15  # of a decimal number, which float64 always keeps
_DAY = 86_400_000_000  # µs
_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


@functools.cache
def _edges() -> tuple[pa.Scalar, pa.Scalar]:
    """The first moment of the calendar, and the first moment after it."""
    first, end = (pa.scalar(seconds * 10**6, pa.timestamp("us")) for seconds in (FIRST, LAST + 1))
    return first, end


def tidy(column: pa.Array) -> pa.Array:
    """Strings without surrounding white space; empty ones become null."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def without(column: pa.Array, markers: Iterable[str]) -> pa.Array:
    """A column whose strings that are among `markers` are null."""
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(pc.is_in(column, pa.array(list(markers), pa.string())), pa.scalar(None, pa.string()), column)


def native(column: pa.Array) -> tuple[pa.Array, ColumnKind | None] | None:
    """A typed file's column as int64, float64, timestamp[us] or string, and the kind of its type (None for strings).

    Numbers that neither int64 nor float64 holds exactly are strings, durations and times of day are seconds. None if
    the type is not supported: lists, structs, bytes.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return native(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return tidy(column.cast(pa.string())), None
    if pa.types.is_null(kind):
        return column.cast(pa.string()), None
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()), "categorical"
    if pa.types.is_uint64(kind) or pa.types.is_decimal(kind):
        return _mapped(column.cast(pa.string()), canonical), "numeric"
    if pa.types.is_integer(kind):
        return column.cast(pa.int64()), "numeric"
    if pa.types.is_floating(kind):
        return _shortest(column), "numeric"
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        ticks = column.cast(pa.int32()).cast(pa.int64()) if pa.types.is_time32(kind) else column.cast(pa.int64())
        return pc.divide(pc.cast(ticks, pa.float64(), safe=False), float(TICKS[kind.unit])), "numeric"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _moments(column), "date"
    return None


def _shortest(column: pa.Array) -> pa.Array:
    """float64; of smaller floats the number whose text is the shortest that tells them apart: 0.1, not 0.10000000149"""
    if pa.types.is_float64(column.type):
        return column
    values = column.to_numpy(zero_copy_only=False)
    distinct, place = np.unique(values, return_inverse=True)
    numbers_of = np.array([float(str(value)) for value in distinct], np.float64)
    return pa.array(numbers_of[place], pa.float64(), mask=np.asarray(column.is_null()))


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


def numbers(column: pa.Array, comma: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [R], NaN where missing; bool [R], true where not a number) of a column of any kind.

    comma: the decimals of strings follow a comma.
    """
    if pa.types.is_timestamp(column.type):
        return np.full(len(column), np.nan), np.asarray(column.is_valid())
    bad = np.zeros(len(column), bool)
    if comma and pa.types.is_string(column.type):
        column = _mapped(column, lambda text: plain(text, comma=True) or f"no number: {text}")
    try:
        cast = pc.cast(column, pa.float64(), safe=False)
    except pa.ArrowInvalid:
        is_number = np.asarray(pc.fill_null(pc.match_substring_regex(column, _NUMBER), True))
        places = np.flatnonzero(~is_number)
        others = _mapped(column.take(pa.array(places)), plain)
        bad[places[np.asarray(others.is_null())]] = True
        kept = pc.if_else(pa.array(is_number), column, pa.scalar(None, pa.string()))
        cast = pc.cast(pc.replace_with_mask(kept, pa.array(~is_number), others), pa.float64())
    return np.array(pc.fill_null(cast, float("nan"))), bad


def beyond_float(column: pa.Array, comma: bool = False) -> pa.Array | None:
    """The texts of those numbers of a column that float64 does not tell from all others, null for the rest; None if
    there are none: whole numbers above 2⁵³, decimals of more than 15 digits."""
    if pa.types.is_integer(column.type):
        may = pc.or_(pc.greater(column, EXACT), pc.less(column, -EXACT))
    elif pa.types.is_string(column.type):
        may = pc.greater(pc.utf8_length(column), _SURE_DIGITS)
    else:
        return None
    if not pc.any(may).as_py():
        return None

    def exact(text: str) -> str | None:
        number = plain(text, comma)
        if number is None:
            return None
        written = canonical(number)
        return None if written == canonical(repr(float(number))) else written

    exact_values = _mapped(pc.if_else(may, column.cast(pa.string()), pa.scalar(None, pa.string())), exact)
    return exact_values if exact_values.null_count < len(exact_values) else None


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


def texts(column: pa.Array, written: ColumnKind | None = None) -> pa.Array:
    """The one text of each value of a column of any type: 1.0 is "1", 12.50 "12.5", midnight its day, True "true".

    written: what strings write, numeric or date, if all of them do; otherwise strings stay as they are.
    """
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        column = pc.cast(pc.add(column, 0.0), pa.string())  # turns -0 into 0
        return _mapped_where(column, pc.match_substring(column, "e"), canonical)
    if pa.types.is_timestamp(column.type):
        return _days(column)
    column = column.cast(pa.string())
    if written == "numeric":
        return _mapped_where(column, pc.match_substring_regex(column, r"(?i)^\+|[.e]|^-0$"), canonical)
    if written == "date":
        moments, bad = dates(column)
        return pc.if_else(pa.array(bad), column, _days(moments))
    return _mapped_where(column, pc.is_in(column, pa.array(list(_BOOLEANS))), lambda text: _BOOLEANS[text])


def _days(moments: pa.Array) -> pa.Array:
    """Texts of moments: the day alone at midnight, otherwise with the time, without superfluous decimals."""
    text = pc.cast(moments, pa.string())
    text = pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1")
    return pc.replace_substring_regex(text, r"( 00:00:00)?\.?$", "")


def _mapped(column: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """A function of strings applied to each distinct one."""
    encoded = column.dictionary_encode()
    return pa.array([function(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _mapped_where(column: pa.Array, where: pa.Array, function: Callable[[str], str]) -> pa.Array:
    where = pc.fill_null(where, False)
    if not pc.any(where).as_py():
        return column
    return pc.if_else(where, _mapped(pc.if_else(where, column, pa.scalar(None, pa.string())), function), column)


def label_text(label: str | bool | int | float) -> str:
    """The text that a label in a recipe has in a column of labels."""
    if isinstance(label, bool):
        return str(label).lower()
    return _BOOLEANS.get(label, label) if isinstance(label, str) else canonical(repr(label))


def same_labels(labels: Sequence[str], written: ColumnKind | None) -> tuple[str, ...]:
    """Labels of a recipe as `texts` writes those of a column."""
    return tuple(texts(pa.array(labels, pa.string()), written).to_pylist())
