"""Records of separated values, with their line numbers: the one reader of CSV and TSV, whatever is made of them.

CSV (RFC 4180): a field that begins with a quote ends at the next single one and may hold delimiters, line ends, and
quotes as two. Where that gives no record as long as the header, a quote may mean itself: the lines from there on are
records of their own, and their quotes text, if each has as many fields as the header. What is read so is counted
(`Quotes`); where it does not fit, lines are rejected.

TSV: a record is a line, and quotes mean themselves (IANA, text/tab-separated-values), so a lone one takes no further
rows. Programs that write TSV like CSV quote where necessary, and their files are read as they are meant: a field is
unquoted that has doubled quotes inside, or if all names in the header are quoted; and fields with tabs or line ends are
put together where that gives a record of the header's length and leaving them gives none.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from data_prep.sources import compressed
from data_prep.sources import records as readers_rows
from data_prep.sources.records import (
    Lines,
    Reject,
    excerpt,
    lost,
    too_long,
)

VERSION = 2  # of the rows that are read; incremented when the same bytes give others, so that keys of results change
SUFFIXES = (".csv", ".tsv", ".tab")
Record = tuple[int, list[str]]
TAB = "\t"
QUOTED = re.compile(r'"(?:[^"]|"")*"')
_OPEN = re.compile(r'(?:[^"]|"")*')
_LINES_OF_A_FIELD = 1000
_AHEAD = 16  # lines that may be looked at in vain, for each that is read
_LIKE_ROWS = 3  # lines


def with_version(digest: str, name: str) -> str:
    """A file's digest as it stands in keys of what is made of the file: with the version, if it may be read here."""
    may_be_read = compressed.is_archive(name) or compressed.split(name)[0].lower().endswith(SUFFIXES)
    return f"{digest}+{VERSION}" if may_be_read else digest


class _TooLongError(Exception):
    pass


class _Line(NamedTuple):
    """A record that is a line."""

    number: int
    fields: list[str]
    is_lone: bool
    """Whether a quote that begins a field is text."""


@dataclass
class Quotes:
    """How quotes in CSV were treated that may not be meant as such."""

    lone: int = 0
    """Records of which a quote is text although it begins a field."""
    spans: int = 0
    """Fields of three lines or more, each of which could be a record itself."""
    first_lone: int = 0
    first_span: int = 0

    def add_lone(self, line: int) -> None:
        self.lone, self.first_lone = self.lone + 1, self.first_lone or line

    def add_span(self, line: int) -> None:
        self.spans, self.first_span = self.spans + 1, self.first_span or line

    @property
    def notes(self) -> list[str]:
        """The same in words."""
        said = []
        if self.lone:
            rows = "1 row has" if self.lone == 1 else f"{self.lone:,} rows have"
            where = f"read as text (line {self.first_lone:,})"
            said.append(f"{rows} a quote at the beginning of a field that it does not quote, {where}")
        if self.spans:
            fields = "1 quoted field holds" if self.spans == 1 else f"{self.spans:,} quoted fields hold"
            where = f"(line {self.first_span:,})"
            said.append(f"{fields} lines that look like rows of their own {where}; if a quote was left open, mend it")
        return said


def records(
    name: str,
    lines: Lines,
    delimiter: str,
    width: int | None = None,
    all_quoted: bool = False,
    quotes: Quotes | None = None,
) -> Iterator[Record | Reject]:
    """The records, each with the line where it starts; empty ones are skipped. Bytes that are not UTF-8 become
    surrogates (see `not_utf8_in`).

    width: fields of a record; None: as in the first one, the header. all_quoted: whether those of TSV are quoted.
    quotes: where odd ones are counted. `lines` is read up to the end of a record, or of several that are found at once.
    """
    if delimiter == TAB:
        return _tabs(name, lines, width, all_quoted)
    return _quoted(name, _Text(lines), delimiter, width, quotes or Quotes())


class _Text:
    """The lines as text, for `csv`; those of the record that is being read are kept."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.taken: list[bytes] = []
        self.at_end = False

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        raw = next(self.lines, b"")
        if raw is None:
            raise _TooLongError
        if not raw:
            self.at_end = True
            raise StopIteration
        self.taken.append(raw)
        return raw.decode("utf-8", "surrogateescape")


def _quoted(name: str, text: _Text, delimiter: str, width: int | None, quotes: Quotes) -> Iterator[Record | Reject]:
    csv.field_size_limit(readers_rows.MAX_BYTES)
    lines, table = text.lines, csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        text.taken, start = [], lines.number + 1
        values, error = list[str](), ""
        try:
            values = next(table)
        except StopIteration:
            return
        except _TooLongError:
            error = "a line that is too long is within quotes"
        except csv.Error as found:
            error = f"not CSV: {found}"
        taken, stop = text.taken, start + len(text.taken)
        if not error and width is not None and len(values) == width and len(taken) >= _LIKE_ROWS:
            if _apart(taken, start, delimiter, width):
                quotes.add_span(start)
        elif (error or len(taken) > 1) and width is not None and len(values) != width:
            apart = _lone(text, start, delimiter, width, is_closed=not error, is_long=lines.number >= stop)
            for number, fields, is_lone in apart:
                if is_lone:
                    quotes.add_lone(number)
                yield number, fields
            if apart:
                if lines.number >= stop:
                    yield too_long(name, lines.number, lines.long)
                continue
        if not error:
            if values:
                width = len(values) if width is None else width
                yield start, values
            continue
        if len(taken) > 1 and not text.at_end and lines.number < stop and width is not None:
            after = _apart(taken[-1:], stop - 1, delimiter, width)
            if after and not after[0].is_lone:  # it needs no quotes that are opened before it
                lines.put_back(taken.pop())
                stop -= 1
        if taken and text.at_end and not taken[-1].endswith(b"\n"):
            yield lost(name, start, "the last row is cut short, and so is the file")
        elif taken:
            yield Reject(name, start, error)
        for line in range(start + 1, stop):  # report every lost line
            yield Reject(name, line, f"within the quotes that open in or after line {start:,}")
        if lines.number >= stop:
            yield too_long(name, lines.number, lines.long)


def _lone(text: _Text, start: int, delimiter: str, width: int, is_closed: bool, is_long: bool) -> list[_Line]:
    """Lines that do not form a record, as records of their own if a quote in the first is text; else none.

    is_closed: whether they are a record, but not as long as the header. is_long: whether a line follows that was too
    long. A last line that ends the search is put back: its quote may be the next to mean something.
    """
    taken, last = text.taken, text.taken[-1:]
    if len(taken) == 1 and not is_long:
        may_go_on = taken[0].count(b'"') % 2 == 1
        return [] if may_go_on else _apart(taken, start, delimiter, width)
    if text.at_end or is_long:
        return _apart(taken, start, delimiter, width)
    rows = _apart(taken[:-1], start, delimiter, width)
    is_likely = len(rows) * (width - 1) > 1 and not is_closed
    if not rows or not (is_likely or _apart(last, start, delimiter, width)) or (is_closed and len(taken) < _LIKE_ROWS):
        return []
    text.lines.put_back(*last)
    return rows


def _apart(lines: list[bytes], start: int, delimiter: str, width: int) -> list[_Line]:
    """A record for each line, with quotes that do not end their field as text; none if a line is no record."""
    rows = list[_Line]()
    for number, raw in enumerate(lines, start):
        line = raw.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
        if not line:
            continue
        values, is_lone = _fields(line, delimiter, width)
        if width < 2 or len(values) != width or "\r" in line:
            return []
        rows.append(_Line(number, values, is_lone))
    return rows


def _fields(line: str, delimiter: str, most: int) -> tuple[list[str], bool]:
    """The fields of a line, up to one more than `most`, and whether a quote that begins one of them is text."""
    mark = re.escape(delimiter)
    field = re.compile(rf'"((?:[^"]|"")*)"(?={mark}|\Z)|[^{mark}]*')
    values, place, is_lone = list[str](), 0, False
    while len(values) <= most and (match := field.match(line, place)):
        is_lone |= match[1] is None and match[0].startswith('"')
        values.append(match[0] if match[1] is None else match[1].replace('""', '"'))
        if match.end() == len(line):
            break
        place = match.end() + 1
    return values, is_lone


class _Ahead:
    """Lines with their numbers (None: too long), some of which can be given back, at the end of the file, too."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._given_back: deque[tuple[int, str | None]] = deque()

    def take(self) -> tuple[int, str | None] | None:
        if self._given_back:
            return self._given_back.popleft()
        raw = next(self._lines, b"")
        if raw == b"":
            return None
        return self._lines.number, None if raw is None else raw.decode("utf-8", "surrogateescape").removesuffix("\n")

    def give_back(self, taken: list[tuple[int, str | None]]) -> None:
        self._given_back.extendleft(reversed(taken))


def _tabs(name: str, lines: Lines, width: int | None, all_quoted: bool) -> Iterator[Record | Reject]:
    source, most = _Ahead(lines), _LINES_OF_A_FIELD
    while (numbered := source.take()) is not None:
        number, line = numbered
        most = min(most + _AHEAD, _LINES_OF_A_FIELD)
        if line is None:
            yield too_long(name, number, lines.long)
            continue
        text = line.removesuffix("\r")
        if not text:
            continue
        values = text.split(TAB)
        if width is None:
            width, all_quoted = len(values), all(map(QUOTED.fullmatch, values))
        joined = None
        if '"' in text:
            joined, in_vain = _joined(values, width, source, most)
            most -= in_vain
        if joined is not None:
            values = joined
        elif '"' in text:
            values = _unquoted(text, values, width, all_quoted)
        if joined is None and "\r" in text and any("\r" in value for value in text.split(TAB) if not _is_quoted(value)):
            yield Reject(name, number, "holds a carriage return", excerpt(text.encode("utf-8", "surrogateescape")))
            continue
        yield number, values


def _unquoted(text: str, values: list[str], width: int, all_quoted: bool) -> list[str]:
    """The fields of a line with quotes."""
    if len(values) != width:
        parsed = _parsed(text)
        return parsed if parsed is not None and len(parsed) == width else values
    return [
        value[1:-1].replace('""', '"')
        if (all_quoted or '""' in value or "\r" in value) and _is_quoted(value)
        else value
        for value in values
    ]


def _is_quoted(value: str) -> bool:
    return QUOTED.fullmatch(value) is not None


def _joined(values: list[str], width: int, source: _Ahead, most: int) -> tuple[list[str] | None, int]:
    """The fields of a record whose last field continues in the next lines, at most `most` of them.

    None if none does, with the number of lines that were looked at; then no line is taken.
    """
    if not values[-1].startswith('"') or values[-1].count('"') % 2 == 0 or len(values) > width:
        return None, 0
    known = _parsed(f'{TAB.join(values)}"')  # fields so far; the pieces of the last one, which is open, are apart
    fields, pieces = (known[:-1], known[-1:]) if known else ([], [])
    taken: list[tuple[int, str | None]] = []
    row = None
    while (after := source.take()) is not None:
        taken.append(after)
        line = after[1]
        if line is None or known is None or len(taken) > most or len(fields) >= width:
            break
        is_record = len(line.split(TAB)) == width
        if is_record and (len(values) == width or '"' not in line):  # then the quote was alone
            break
        closed = None if _OPEN.fullmatch(line) else _parsed(f'"{line}'.removesuffix("\r"))
        going_on = closed or _parsed(f'"{line}"')
        if going_on is None:
            break
        first, *others = going_on
        pieces.append(first)
        if closed or others:
            fields.append("\n".join(pieces))
            fields += others if closed else others[:-1]
            pieces = others[-1:]
        if closed:
            row = fields if len(fields) == width else None
            break
    if row is None:
        source.give_back(taken)
    return row, 0 if row is not None else len(taken)


def _parsed(text: str, delimiter: str = TAB) -> list[str] | None:
    """The fields of one record, as CSV quotes them; None if it is not closed or more than one."""
    csv.field_size_limit(readers_rows.MAX_BYTES)
    try:
        rows = list(csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs twice, among any number of them; None: there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def not_utf8_in(values: list[str]) -> bool:
    """Whether a record contains bytes that are not UTF-8."""
    return any(not value.isascii() and any("\udc80" <= c <= "\udcff" for c in value) for value in values)
