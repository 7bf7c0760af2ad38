"""Rows of named columns: separated values, JSON lines, Parquet and Arrow files.

.tsv .csv     a header, or `columns`; then a row each, each also .gz
.jsonl .json  an object a line, each also .gz; .json may also be one list of objects
.parquet .arrow .feather
any other name, where `delimiter` says what parts its columns
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from data_prep.errors import UserError
from data_prep.labelled.layouts import arrow
from data_prep.labelled.rows import Asked, Reading, Row
from data_prep.labelled.values import short
from data_prep.sources.dialect import begun
from data_prep.sources.records import HEAD, Lines, Reject, joined, marked_encoding, not_encoded, recoded
from data_prep.sources.separated import Quotes, not_utf8_in, records, repeated
from data_prep.sources.stand_ins import stand_in

DELIMITERS = {".tsv": "\t", ".csv": ","}
_JSON = (".jsonl", ".json")
FORMATS = (*(f"{end}{gz}" for end in (*_JSON, *DELIMITERS) for gz in ("", ".gz")), *arrow.SUFFIXES)
_Numbered = Iterator[tuple[int, dict[str, Any] | UserError]]


def is_separated(path: Path) -> bool:
    """Whether a file's name promises separated values."""
    return path.name.lower().removesuffix(".gz").endswith(tuple(DELIMITERS))


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[Row | UserError]:
    """The rows of a file; an error in place of each that cannot be read. UserError if the file cannot be."""
    for line, fields in _numbered(path, asked, reading):
        yield fields if isinstance(fields, UserError) else Row(where(path, line), f"{path.name}:{line}", fields)


def where(path: Path, line: int) -> str:
    """Where a row stands, for errors."""
    return f"{path} {'row' if path.name.lower().endswith(arrow.SUFFIXES) else 'line'} {line}"


def _numbered(path: Path, asked: Asked, reading: Reading) -> _Numbered:
    if not path.name.lower().endswith(FORMATS) and asked.delimiter is None:
        raise UserError(
            f"{path} cannot be read as labelled data; use {', '.join(FORMATS)}, or set the task's separator"
        )
    try:
        if problem := stand_in(lambda: path.open("rb"), path.name, path.stat().st_size):
            raise UserError(f"{path} is {problem}")
        if path.name.lower().endswith(arrow.SUFFIXES):
            yield from arrow.rows(path, asked, reading)
            return
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            yield from _of_text(path, cast(BinaryIO, stream), asked, reading)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); compress it again") from error
    except UnicodeError as error:
        raise UserError(f"{path}: {not_encoded(asked.encoding, error).replace('its source', 'its data')}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a file") from error


def _of_text(path: Path, stream: BinaryIO, asked: Asked, reading: Reading) -> _Numbered:
    stream = decoded(path, stream, asked.encoding)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(_JSON) and asked.delimiter is None:
        yield from _json_rows(path, stream, may_be_a_list=name.endswith(".json"))
        return
    usual = asked.delimiter or next((DELIMITERS[end] for end in DELIMITERS if name.endswith(end)), "\t")
    if asked.quotes:
        yield from _separated_rows(path, stream, usual, asked, reading)
    else:
        yield from _named(path, _lines(path, stream, usual, len(asked.columns)), asked, reading)


def decoded(path: Path, stream: BinaryIO, encoding: str | None) -> BinaryIO:
    """The stream as UTF-8. UserError if it begins as something else does, and no encoding is given."""
    if encoding is not None:
        return recoded(stream, encoding)
    head = stream.read(HEAD)
    if problem := marked_encoding(head):
        raise UserError(f"{path}: {problem.replace('its source', 'its data')}")
    return joined(head, stream)


def _json_rows(path: Path, stream: BinaryIO, may_be_a_list: bool) -> _Numbered:
    for line, raw in enumerate(stream, 1):
        try:
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02x}"
            problem = f"{where(path, line)} holds the byte {byte}; expected UTF-8, or set the encoding of its data"
            yield line, UserError(problem)
            continue
        if may_be_a_list and text.lstrip().startswith("["):
            yield from _json_list(path, text + (b"\n" + stream.read()).decode("utf-8", "surrogateescape"))
            return
        if text.strip():
            may_be_a_list = False
            yield line, _json_row(where(path, line), text)


def _json_list(path: Path, text: str) -> _Numbered:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); expected a list of objects, or one object per line") from error
    for number, value in enumerate(values, 1):
        problem = UserError(f"{path} row {number} holds {short(value)}; expected a JSON object")
        yield number, value if isinstance(value, dict) else problem


def _json_row(place: str, text: str) -> dict[str, Any] | UserError:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return UserError(f"{place} is not JSON ({error}); expected one object per line")
    return row if isinstance(row, dict) else UserError(f"{place} holds {short(row)}; expected a JSON object")


def _separated_rows(path: Path, stream: BinaryIO, usual: str, asked: Asked, reading: Reading) -> _Numbered:
    """Rows of a file whose quotes may quote."""
    delimiter, skip = usual, 0
    if not asked.columns:
        stream, dialect = begun(stream, usual, asked.wanted, asked.delimiter)
        if dialect.problem:
            raise UserError(f"{path}: {dialect.problem}")
        reading.notes.extend(dialect.notes)
        delimiter, skip = dialect.delimiter, dialect.skip
    lines = Lines(stream)
    for _ in range(skip):
        next(lines, None)
    quotes = Quotes()
    numbered = records(path.name, lines, delimiter, len(asked.columns) or None, quotes=quotes)
    yield from _named(path, (_checked(path, record) for record in numbered), asked, reading)
    reading.notes.extend(quotes.notes)


def _checked(path: Path, record: tuple[int, list[str]] | Reject) -> tuple[int, list[str] | UserError]:
    if isinstance(record, Reject):
        return record.position, UserError(f"{where(path, record.position)}: {record.reason}")
    line, cells = record
    if not_utf8_in(cells):
        return line, UserError(f"{where(path, line)} is not UTF-8; set the encoding of its data, such as cp1252")
    return line, cells


def _lines(path: Path, stream: BinaryIO, delimiter: str, width: int) -> Iterator[tuple[int, list[str] | UserError]]:
    """Cells of a file without quoting: a row is what ends in a line feed, whatever other line ends it holds.

    Of `width` columns between blanks the last one is the rest of the line.
    """
    most = width - 1 if delimiter == " " and width else -1
    lines = Lines(stream)
    for raw in lines:
        if raw is None:
            yield lines.number, UserError(f"{where(path, lines.number)} is too long for a row")
            continue
        text = raw.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
        if text:
            yield _checked(path, (lines.number, text.split(delimiter, most)))


def _named(
    path: Path, numbered: Iterable[tuple[int, list[str] | UserError]], asked: Asked, reading: Reading
) -> _Numbered:
    """Cells by the names of their columns, of the header or as asked; rows without any value are counted."""
    header, blank = list(asked.columns), 0
    for line, cells in numbered:
        if isinstance(cells, UserError):
            if not header:
                raise cells
            yield line, cells
        elif not header:
            header = [cell.strip() for cell in cells]
            if (twice := repeated(header)) is not None:
                raise UserError(f"{where(path, line)}: more than one column is called {twice!r}; rename one")
        elif not any(cell.strip() for cell in cells):
            blank += 1
        elif asked.columns and [cell.strip() for cell in cells] == header:
            raise UserError(f"{where(path, line)} is a header, and columns says that there is none; leave columns out")
        elif len(cells) != len(header):
            problem = f"{where(path, line)} has {len(cells)} columns; expected {len(header)}: {', '.join(header)}"
            yield line, UserError(problem)
        else:
            yield line, dict(zip(header, cells, strict=True))
    if blank:
        reading.notes.append(f"{blank:,} row{'s' * (blank > 1)} without any value, left out")
