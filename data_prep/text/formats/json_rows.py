"""Readers for documents in JSON: one object per line, an array of objects, or objects one after another."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from data_prep.sources import records
from data_prep.sources.records import (
    EXCERPT,
    Fields,
    Lines,
    Reject,
    Row,
    excerpt,
    has_bytes,
    joined,
    json_type,
    lost,
    not_utf8,
    row_of,
    too_long,
)

_CHUNK = 1 << 20
_SPACE = " \t\r\n"
_LONGEST_WORD = 32  # characters by which the end of a value may be noticed too late
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
_LONGEST_INT = 4000  # digits; Python refuses to read more than 4,300
# Numbers of any length, in fields that nobody asked for: those that are too long count as infinite.
_ANY_NUMBER = json.JSONDecoder(
    parse_constant=lambda _: None, parse_int=lambda text: int(text) if len(text) <= _LONGEST_INT else float("inf")
)


def json_lines(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    """One document per line."""
    rows = 0
    for rows, row in enumerate(rows_of_lines(name, Lines(stream), fields), 1):  # noqa: B007
        yield row
    if not rows:
        yield lost(name, 1, "empty file")


def json_values(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    """One document per line, or per element of an array, or per object; whichever the file begins like."""
    head, first = b"", b""
    while not first and (raw := stream.readline(_CHUNK)):
        head, first = head + raw, raw.removeprefix(b"\xef\xbb\xbf").strip()
    if not first:
        yield lost(name, 1, "empty file")
        return
    whole = joined(head, stream)
    is_array = first.startswith(b"[")
    if is_array or not _is_line(first):
        rows = _values(name, whole, fields, is_array)
    else:
        rows = rows_of_lines(name, Lines(whole), fields)
    number = 0
    for number, row in enumerate(rows, 1):  # noqa: B007
        yield row
    if not number:
        yield lost(name, 1, "no element in the array")


def rows_of_lines(name: str, lines: Lines, fields: Fields) -> Iterator[Row]:
    """The documents of the lines of a file, or of a stretch of one."""
    for raw in lines:
        if raw is None:
            yield too_long(name, lines.number, lines.long)
        elif raw.strip():
            yield _line(name, lines.number, raw, fields)


def _line(name: str, line: int, raw: bytes, fields: Fields) -> Row:
    def reject(reason: str) -> Reject:
        return Reject(name, line, reason, excerpt(raw))

    badly_encoded = None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        badly_encoded, text = not_utf8(raw, error), raw.decode("utf-8", "surrogateescape")
    try:
        try:
            row = _DECODER.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a number is too long for int
            row = _ANY_NUMBER.decode(text)
    except json.JSONDecodeError as error:
        if badly_encoded:
            return reject(badly_encoded)
        if error.msg == "Extra data" and "\r" in text[: error.pos]:
            return reject("its lines end in carriage returns alone; save it with line feeds")
        if _is_cut(text, error):
            return lost(name, line, "the last line is cut short, and so is the file", excerpt(raw))
        return reject(f"not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return reject(f"not JSON that can be read: {error}")
    if badly_encoded and not _asked_is_unicode(row, fields):
        return reject(badly_encoded)
    return _row(name, line, row, fields, excerpt(raw))


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether a line is the beginning of an object, without a line end: the last one of a file that is cut short."""
    begins = text.lstrip(_SPACE).startswith("{") and not text.endswith("\n")
    return begins and (error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip(_SPACE)))


def _asked_is_unicode(row: Any, fields: Fields) -> bool:
    values = [row.get(key) for key in fields.asked] if isinstance(row, dict) else []
    return not any(isinstance(value, str) and has_bytes(value) for value in values)


def _row(name: str, position: int, row: Any, fields: Fields, begin: str) -> Row:
    if not isinstance(row, dict):
        return Reject(name, position, f"expected a JSON object, found {json_type(row)}", begin)
    for key in fields.asked:
        if key not in row:
            return Reject(name, position, f"no field {key!r}; found {', '.join(map(repr, row)) or 'none'}", begin)
    return row_of(name, position, row, fields, begin)


# -- values that are not one a line -----------------------------------------------------------------------------------


def _is_line(line: bytes) -> bool:
    """Whether a line, maybe without its end, is a value of its own or meant to be one, not the beginning of one."""
    try:
        _DECODER.decode(line.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.doc[error.pos] == "{":
            return False  # objects one after another
        return (
            not line.startswith(b"{") or line.endswith(b"}") or (len(line) < _CHUNK - 1 and error.pos < len(line) - 1)
        )
    except (ValueError, RecursionError):  # a number that is too long, or too deep
        return True
    return True


def _values(name: str, stream: BinaryIO, fields: Fields, is_array: bool) -> Iterator[Row]:
    """The elements of an array, or objects one after another. What cannot be read ends it."""
    text = _Text(stream)
    if is_array:
        text.skip("[", at_most=1)
    position = 0
    while True:
        text.skip("," if is_array and position else "", at_most=1)
        if is_array and text.skip("]", at_most=1):
            text.skip("", 0)
            if not text.at_end:
                yield lost(name, position + 1, "something follows the array, and is not read")
            return
        if text.at_end:
            if is_array:
                yield lost(name, position + 1, "the array is cut short")
            return
        position += 1
        try:
            row, raw = text.value()
        except (ValueError, RecursionError) as error:
            reason = f"not JSON, not read from here on: {getattr(error, 'msg', None) or error}"
            yield lost(name, position, reason, text.begin)
            return
        begin = excerpt(raw[: 4 * EXCERPT].encode("utf-8", "surrogateescape"))
        if isinstance(row, dict) and not _asked_is_unicode(row, fields):
            yield Reject(name, position, "not UTF-8", begin)
        else:
            yield _row(name, position, row, fields, begin)


class _Text:
    """The text of a stream, from which values are taken one by one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._decode = stream, codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._text, self._place, self._is_all = "", 0, False
        self._decoder = _DECODER

    @property
    def at_end(self) -> bool:
        return self._is_all and self._place >= len(self._text)

    @property
    def begin(self) -> str:
        return excerpt(self._text[self._place : self._place + EXCERPT].encode("utf-8", "surrogateescape"))

    def _read_on(self, size: int) -> None:
        data = self._stream.read(size)
        self._text = self._text[self._place :] + self._decode(data, final=not data)
        self._place, self._is_all = 0, not data

    def skip(self, mark: str, at_most: int) -> int:
        """Pass over white space and up to `at_most` of the mark; returns how many there were."""
        num_skipped = 0
        while True:
            if self._place >= len(self._text):
                if self._is_all:
                    return num_skipped
                self._read_on(_CHUNK)
            elif self._text[self._place] in _SPACE:
                self._place += 1
            elif mark and num_skipped < at_most and self._text[self._place] == mark:
                self._place, num_skipped = self._place + 1, num_skipped + 1
            else:
                return num_skipped

    def value(self) -> tuple[Any, str]:
        """The next value, and its text. ValueError if there is none, or it is too long."""
        while True:
            try:
                row, end = self._decoder.raw_decode(self._text, self._place)
                if end < len(self._text) or self._is_all or isinstance(row, dict | list | str):
                    text, self._place = self._text[self._place : end], end
                    return row, text
            except json.JSONDecodeError as error:
                may_go_on = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _LONGEST_WORD
                if self._is_all or not may_go_on:
                    raise
            except ValueError:  # a number is too long for int
                if self._decoder is _ANY_NUMBER:
                    raise
                self._decoder = _ANY_NUMBER
                continue
            if len(self._text) - self._place > records.MAX_BYTES:
                raise ValueError(f"longer than {records.MAX_BYTES:,} characters")
            self._read_on(max(_CHUNK, len(self._text)))  # twice as much each time, so that the work stays linear
