"""Records of separated values (CSV, TSV), with their line numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from data_prep.sources import records as readers_rows
from data_prep.sources.records import (
    Lines,
    Reject,
    too_long,
)


class _TooLongError(Exception):
    pass


def records(name: str, lines: Lines, delimiter: str) -> Iterator[tuple[int, list[str]] | Reject]:
    """The records of separated values, each with the line where it starts; empty ones are skipped, and quoted fields
    may contain line ends. Bytes that are not UTF-8 become surrogates (see `not_utf8_in`)."""

    class Text:
        def __iter__(self) -> Text:
            return self

        def __next__(self) -> str:
            raw = next(lines)
            if raw is None:
                raise _TooLongError
            return raw.decode("utf-8", "surrogateescape")

    csv.field_size_limit(readers_rows.MAX_BYTES)
    table = csv.reader(Text(), delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        try:
            values = next(table)
        except StopIteration:
            break
        except _TooLongError:
            yield too_long(name, lines.number, lines.long)
        except csv.Error as error:
            yield Reject(name, start, f"not {'CSV' if delimiter == ',' else 'TSV'}: {error}")
            for line in range(start + 1, lines.number + 1):  # report every lost line
                yield Reject(name, line, f"within the quotes that open in or after line {start:,}")
        else:
            if values:
                yield start, values


def not_utf8_in(values: list[str]) -> bool:
    """Whether a record contains bytes that are not UTF-8."""
    return any(not value.isascii() and any("\udc80" <= c <= "\udcff" for c in value) for value in values)
