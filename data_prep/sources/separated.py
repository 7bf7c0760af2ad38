"""Records of separated values, with their line numbers: the one reader of CSV and TSV, whatever is made of them.

CSV (RFC 4180): a field that begins with a quote ends at the next single one and may hold delimiters, line ends, and
quotes as two.

TSV: a record is a line, and quotes mean themselves (IANA, text/tab-separated-values), so a lone one takes no further
rows. Programs that write TSV as CSV quote what needs it, and what they write is read as they meant it: a field is
unquoted that has doubled quotes inside, or if all names in the header are quoted; and fields with tabs or line ends are
put together where that gives a record of the header's length and leaving them gives none.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from data_prep.sources import records as readers_rows
from data_prep.sources.records import (
    Lines,
    Reject,
    excerpt,
    lost,
    too_long,
)

Record = tuple[int, list[str]]
TAB = "\t"
QUOTED = re.compile(r'"(?:[^"]|"")*"')
_LINES_OF_A_FIELD = 1000


class _TooLongError(Exception):
    pass


def records(
    name: str, lines: Lines, delimiter: str, width: int | None = None, all_quoted: bool = False
) -> Iterator[Record | Reject]:
    """The records, each with the line where it starts; empty ones are skipped. Bytes that are not UTF-8 become
    surrogates (see `not_utf8_in`).

    width: fields of a record of TSV; None: as in the first one, the header. all_quoted: whether its fields are.
    """
    return _tabs(name, lines, width, all_quoted) if delimiter == TAB else _quoted(name, lines, delimiter)


def _quoted(name: str, lines: Lines, delimiter: str) -> Iterator[Record | Reject]:
    class Text:
        is_last_whole = True

        def __iter__(self) -> Text:
            return self

        def __next__(self) -> str:
            raw = next(lines)
            if raw is None:
                raise _TooLongError
            self.is_last_whole = raw.endswith(b"\n")
            return raw.decode("utf-8", "surrogateescape")

    csv.field_size_limit(readers_rows.MAX_BYTES)
    text = Text()
    table = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        try:
            values = next(table)
        except StopIteration:
            break
        except _TooLongError:
            yield too_long(name, lines.number, lines.long)
        except csv.Error as error:
            if text.is_last_whole:
                yield Reject(name, start, f"not CSV: {error}")
            else:  # the end of the file, within quotes
                yield lost(name, start, "the last row is cut short, and so is the file")
            for line in range(start + 1, lines.number + 1):  # report every lost line
                yield Reject(name, line, f"within the quotes that open in or after line {start:,}")
        else:
            if values:
                yield start, values


def _tabs(name: str, lines: Lines, width: int | None, all_quoted: bool) -> Iterator[Record | Reject]:
    ahead: deque[tuple[int, str | None]] = deque()

    def following() -> Iterator[tuple[int, str | None]]:
        while True:
            if ahead:
                yield ahead.popleft()
                continue
            raw = next(lines, b"")
            if raw == b"":
                return
            yield lines.number, None if raw is None else raw.decode("utf-8", "surrogateescape").removesuffix("\n")

    source = following()
    for number, line in source:
        if line is None:
            yield too_long(name, number, lines.long)
            continue
        text = line.removesuffix("\r")
        if not text:
            continue
        values = text.split(TAB)
        if width is None:
            width, all_quoted = len(values), all(map(QUOTED.fullmatch, values))
        joined = _joined(text, values, width, source, ahead) if '"' in text else None
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


def _joined(
    text: str,
    values: list[str],
    width: int,
    source: Iterator[tuple[int, str | None]],
    ahead: deque[tuple[int, str | None]],
) -> list[str] | None:
    """The fields of a record whose last field goes on in the next lines; None, and no line is taken, if none does."""
    last = values[-1]
    if not last.startswith('"') or last.count('"') % 2 == 0 or len(values) > width:
        return None
    taken: list[tuple[int, str | None]] = []
    found = None
    for number, line in source:
        taken.append((number, line))
        if line is None or len(taken) > _LINES_OF_A_FIELD:
            break
        is_record = len(line.split(TAB)) == width
        if is_record and (len(values) == width or '"' not in line):  # then the quote was alone
            break
        text += f"\n{line}"
        if '"' in line:
            parsed = _parsed(text.removesuffix("\r"))
            if parsed is not None:
                found = parsed if len(parsed) == width else None
                break
    if found is None:
        ahead.extendleft(reversed(taken))
    return found


def _parsed(text: str) -> list[str] | None:
    """The fields of one record, as CSV quotes them; None if it is not closed or more than one."""
    csv.field_size_limit(readers_rows.MAX_BYTES)
    try:
        rows = list(csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=TAB, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is there twice, among any number of them; None: there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def not_utf8_in(values: list[str]) -> bool:
    """Whether a record contains bytes that are not UTF-8."""
    return any(not value.isascii() and any("\udc80" <= c <= "\udcff" for c in value) for value in values)
