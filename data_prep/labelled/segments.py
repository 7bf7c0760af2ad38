"""Labelled stretches of a recording, and the label at each hundredth of a second.

    [[0.0, 0.42, "one"], [0.42, 0.9, "two"]]        seconds; or objects with start, end and label

    position    0 … 41        42 … 89       90 … 99       of a recording of one second
    label       one           two           not known, or that of `outside`

Positions do not depend on a network: those with frames of other lengths and rates are scored on the same ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.examples import Answer
from data_prep.labelled.rows import Reading, Row
from data_prep.labelled.values import short

RATE = 100  # positions per second
UNKNOWN = -1  # in place of the number of a label
ROUNDING = 1 / RATE  # seconds by which a time may be off
_KEYS = ("start", "end", "label")
_EMPTY = "segments too short to have a position (a hundredth of a second), which label nothing"


class Segment(NamedTuple):
    """start, end: seconds. label: as the file has it, or its number."""

    start: float
    end: float
    label: Any


def num_positions(seconds: float) -> int:
    """How many positions a recording has: those whose middle is in it, but one at least."""
    return max(1, math.floor(seconds * RATE + 0.5))


def middles(seconds: float) -> np.ndarray:
    """The middle of each position, in seconds."""
    return (np.arange(num_positions(seconds)) + 0.5) / RATE


def segments_of(row: Row, name: str, value: Any, seconds: float, reading: Reading) -> list[Segment]:
    """The segments of a recording of so many seconds, in their order. UserError for what cannot be meant: times that
    are no numbers or negative, ends before starts, segments beyond the recording or of which two overlap."""
    segments = sorted(_read(row.where, name, value), key=lambda segment: segment.start)
    end, before = 0.0, ""
    for segment in segments:
        shown = f"{row.where}: {name!r}: the segment {short(list(segment))}"
        _check(shown, segment.start, segment.end, seconds)
        if segment.start < end - ROUNDING:
            raise UserError(f"{shown} overlaps {before}; a position has one label")
        if _places(segment)[0] == _places(segment)[1]:
            reading.add(_EMPTY, row.place)
        end, before = segment.end, short(list(segment))
    return segments


def _check(shown: str, start: float, end: float, seconds: float) -> None:
    """UserError unless some time of a recording lies between start and end."""
    if start < 0 or end <= start:
        raise UserError(f"{shown} has no duration from 0 on; expected seconds, start before end")
    if end > seconds + ROUNDING:
        raise UserError(f"{shown} ends after the recording, which has {seconds:.2f} seconds")


def spans_of(row: Row, name: str, value: Any, seconds: float) -> tuple[Answer, ...]:
    """The spans of a recording of so many seconds that answer a question, none perhaps, as texts (`as_span`).

    value: [start, end], or a list of those that count, which may be objects with start and end.
    """
    if isinstance(value, str):  # of separated values
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    value = [value] if isinstance(value, Mapping) or (_is_list_of(2, value) and all(map(_is_time, value))) else value
    if not isinstance(value, list):
        raise UserError(f"{row.where}: {name!r} is {short(value)}; expected start and end, or a list of such spans")
    answers = []
    for item in value:
        span: Any = [item.get(key) for key in _KEYS[:2]] if isinstance(item, Mapping) else item
        if not _is_list_of(2, span) or not all(map(_is_time, span)):
            raise UserError(f"{row.where}: {name!r} holds {short(item)}; expected a span: start and end in seconds")
        start, end = span
        _check(f"{row.where}: {name!r}: the span {short(span)}", start, end, seconds)
        answers.append(Answer(as_span(start, end), 0))
    return tuple(answers)


def as_span(start: float, end: float) -> str:
    """A span of time as a text: start and end in seconds."""
    return f"{start:.3f} {end:.3f}"


def span_in(text: str) -> tuple[float, float]:
    """Start and end of a span that is written as `as_span` does. UserError for another text."""
    try:
        start, end = map(float, text.split(" "))
    except ValueError:
        raise UserError(f"{text!r} is no span of time; expected start and end in seconds") from None
    return start, end


def _is_list_of(number: int, value: Any) -> bool:
    return isinstance(value, list) and len(value) == number


def _read(where: str, name: str, value: Any) -> Iterator[Segment]:
    if isinstance(value, str):  # of separated values
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        raise UserError(f"{where}: {name!r} is {short(value)}; expected a list of segments, [start, end, label] each")
    for item in value:
        parts: Any = [item.get(key) for key in _KEYS] if isinstance(item, Mapping) else item
        if not _is_list_of(len(_KEYS), parts) or not all(map(_is_time, parts[:2])):
            raise UserError(
                f"{where}: {name!r} holds {short(item)}; expected a segment: start and end in seconds, and a label"
            )
        yield Segment(float(parts[0]), float(parts[1]), parts[2])


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _places(segment: Segment) -> tuple[int, int]:
    """The first position whose middle is in a segment, and the first after them."""
    first, last = (math.ceil(time * RATE - 0.5) for time in segment[:2])
    return first, last


def tags_of(segments: Iterable[Segment], seconds: float, outside: int = UNKNOWN) -> tuple[int, ...]:
    """The number of the label at each position. outside: that of positions in no segment."""
    tags = np.full(num_positions(seconds), outside)
    for segment in segments:
        first, last = _places(segment)
        tags[first:last] = segment.label
    return tuple(tags.tolist())


def stretches(tags: Sequence[int], seconds: float) -> list[Segment]:
    """Runs of equal labels as segments, but for those of unknown ones."""
    values = np.asarray(tags)
    begins = np.flatnonzero(np.diff(values, prepend=np.nan))
    ends = [*begins[1:].tolist(), len(values)]
    return [
        Segment(begin / RATE, round(seconds, 4) if end == len(values) else end / RATE, int(values[begin]))
        for begin, end in zip(begins.tolist(), ends, strict=True)
        if values[begin] != UNKNOWN
    ]
