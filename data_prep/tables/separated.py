"""Reader for separated values (CSV, TSV), optimised for files without quotes.

Blocks without quotes are split and checked with numpy, and parsed by Arrow. From the first quote on, records are read
one by one, since quoted fields may contain delimiters and line ends.
"""

from __future__ import annotations

import io
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from data_prep.sources import records as readers_rows
from data_prep.sources.dialect import begun
from data_prep.sources.records import EXCERPT, Lines, Reject, excerpt, joined, lost
from data_prep.sources.separated import Quotes, not_utf8_in, records, repeated
from data_prep.tables.layouts import Layout
from data_prep.tables.schema import Raw
from data_prep.tables.values import tidy

BLOCK = 4 << 20  # bytes
_ROWS = 8192
_NUL = "holds a NUL character, which is no text; if the file is UTF-16, set the encoding of its source"
_NOT_UTF8 = "not UTF-8"
_SPACES = b" \t\x0b\x0c\x1c\x1d\x1e\x1f"


class _Columns(NamedTuple):
    names: list[str]
    drop: Container[str]
    delimiter: str
    notes: list[str]
    """How the file is written; complete when its rows are read."""
    all_quoted: bool = False


def separated(
    name: str,
    stream: BinaryIO,
    layout: Layout | None,
    drop: Container[str],
    delimiter: str,
    is_known: bool = False,
) -> Iterator[Raw | Reject]:
    """The rows of a file, whose columns are named by its header or by the layout.

    is_known: whether its columns are parted by `delimiter`, whatever it looks like.
    """
    stream, dialect = begun(stream, delimiter, delimiter=delimiter if is_known else None)
    if dialect.problem:
        yield lost(name, 1, dialect.problem)
        return
    skip = layout.skip if layout and (layout.skip or not layout.header) else dialect.skip
    lines = Lines(stream)
    for _ in range(skip):
        next(lines, None)
    columns: _Columns | None = None
    number = lines.number
    if layout is not None and not layout.header:
        stream, first = _first_record(name, stream, lines, delimiter)
        columns = _Columns(layout.names_of(first), drop, delimiter, [])
    else:
        for record in records(name, lines, dialect.delimiter):
            number = lines.number
            if isinstance(record, Reject):
                yield replace(record, lost=True)
                return
            names = [value.strip() or f"column {place}" for place, value in enumerate(record[1], 1)]
            problem = _wrong_header(names, layout, drop)
            if problem:
                yield lost(name, record[0], problem)
                return
            columns = _Columns(names, drop, dialect.delimiter, list(dialect.notes), dialect.all_quoted)
            break
    read = 0
    if columns is not None:
        for batch in _rows(name, stream, number, columns):
            read += 1
            yield batch
    if not read:
        yield lost(name, 1, "empty file" if columns is None or lines.number == 0 else "no row below the header")


def _first_record(name: str, stream: BinaryIO, lines: Lines, delimiter: str) -> tuple[BinaryIO, list[str]]:
    """The same stream, and the fields of the first line; none if there is no line, or it is no record."""
    raw = next(lines, b"")
    whole = joined(raw or lines.long, stream)
    record = next(records(name, Lines(io.BytesIO(raw or b"")), delimiter), None)
    return whole, [] if record is None or isinstance(record, Reject) else [value.strip() for value in record[1]]


def _wrong_header(names: list[str], layout: Layout | None, drop: Container[str]) -> str | None:
    if any("\0" in name for name in names):
        return f"the header {_NUL}"
    if not_utf8_in(names):
        return "the header is not UTF-8"
    wanted = [name for name in names if name not in drop]
    twice = repeated(wanted)
    if twice is not None:
        return f"more than one column is called {twice!r}"
    if layout is not None and set(names) != set(layout.columns):
        odd = sorted(set(names) ^ set(layout.columns))[0]
        return f"the header is not that of its layout: {odd!r} is {'too much' if odd in names else 'missing'}"
    return None


def _rows(name: str, stream: BinaryIO, number: int, columns: _Columns) -> Iterator[Raw | Reject]:
    """The rows after line `number`."""
    pending = b""
    while True:
        block = stream.read(BLOCK)
        data = pending + block
        if number == 0:
            data = data.removeprefix(b"\xef\xbb\xbf")
        cut = data.rfind(b"\n") + 1 if block else len(data)
        if b'"' in data or (block and len(data) > readers_rows.MAX_BYTES and not cut):
            yield from _one_by_one(name, Lines(joined(data, stream), number), columns)
            return
        if cut:
            yield from _unquoted(name, data[:cut], number, columns)
            number += data.count(b"\n", 0, cut)
        pending = data[cut:]
        if not block:
            return


# -- by the block -----------------------------------------------------------------------------------------------------


def _unquoted(name: str, data: bytes, before: int, columns: _Columns) -> Iterator[Raw | Reject]:
    """Rows of complete lines without quotes; `before`: number of lines before them."""
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == 10)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.append(0, ends[:-1] + 1)
    empty = (ends == starts) | ((ends == starts + 1) & (array[np.minimum(starts, len(array) - 1)] == 13))
    reasons = _problems(data, array, starts, ends, columns)
    bad = np.zeros(len(ends), bool)
    bad[list(reasons)] = True
    bad &= ~empty
    for line in np.flatnonzero(bad).tolist():
        yield Reject(name, before + 1 + line, reasons[line], excerpt(data[starts[line] : ends[line]][: 4 * EXCERPT]))
    keep = ~bad & ~empty
    if not keep.any():
        return
    if bad.any():
        lengths = np.diff(np.append(starts, len(array)))
        data = array[np.repeat(~bad, lengths)].tobytes()
    kept_columns = [column for column in columns.names if column not in columns.drop]
    called = [
        name if name in kept_columns else f"{number} {name}" for number, name in enumerate(columns.names)
    ]  # unique names
    table = csv.read_csv(
        pa.py_buffer(data),
        read_options=csv.ReadOptions(column_names=called, use_threads=False, block_size=len(data) + 1),
        parse_options=csv.ParseOptions(delimiter=columns.delimiter, quote_char=False),
        convert_options=csv.ConvertOptions(
            check_utf8=False,  # already checked
            column_types=dict.fromkeys(called, pa.string()),
            include_columns=kept_columns,
            null_values=[""],
            strings_can_be_null=True,
        ),
    ).combine_chunks()
    if table.num_rows != keep.sum():
        raise RuntimeError(f"{name}: {keep.sum()} lines after {before} became {table.num_rows} rows")
    values_of = {column: table[column].chunk(0) for column in kept_columns}
    spaces = set(_SPACES) - set(columns.delimiter.encode())
    if not data.isascii() or np.bincount(array, minlength=128)[list(spaces)].any():
        values_of = {column: tidy(values) for column, values in values_of.items()}
    positions = before + 1 + np.flatnonzero(keep)
    yield Raw(values_of, positions, {}, columns.names, columns.delimiter, columns.notes)


def _problems(
    data: bytes, array: np.ndarray, starts: np.ndarray, ends: np.ndarray, columns: _Columns
) -> dict[int, str]:
    """Problems of lines, by line index."""
    problems: dict[int, str] = {}
    delimiters = np.flatnonzero(array == ord(columns.delimiter))
    fields = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    for line in np.flatnonzero(fields != len(columns.names)).tolist():
        problems[line] = f"expected {len(columns.names)} fields, found {fields[line]}"
    returns = np.flatnonzero(array == 13)
    inside = returns[(returns + 1 < len(array)) & (array[np.minimum(returns + 1, len(array) - 1)] != 10)]
    for line in np.unique(np.searchsorted(ends, inside)).tolist():
        problems[line] = "holds a carriage return"
    for line in np.unique(np.searchsorted(ends, np.flatnonzero(array == 0))).tolist():
        problems[line] = _NUL
    if not data.isascii():
        for line in np.unique(np.searchsorted(ends, np.flatnonzero(array > 127))).tolist():
            try:
                data[starts[line] : ends[line]].decode()
            except UnicodeDecodeError:
                problems[line] = _NOT_UTF8
    for line in np.flatnonzero(ends - starts > readers_rows.MAX_BYTES).tolist():
        problems[line] = f"longer than {readers_rows.MAX_BYTES:,} bytes"
    return problems


# -- one by one -------------------------------------------------------------------------------------------------------


def _one_by_one(name: str, lines: Lines, columns: _Columns) -> Iterator[Raw | Reject]:
    rows: list[list[str]] = []
    positions: list[int] = []
    size, quotes = 0, Quotes()
    for record in records(name, lines, columns.delimiter, len(columns.names), columns.all_quoted, quotes):
        if isinstance(record, Reject):
            yield record
            continue
        start, values = record
        joined = "".join(values)
        problem = None
        if len(values) != len(columns.names):
            problem = f"expected {len(columns.names)} fields, found {len(values)}"
        elif not joined.isascii() and not_utf8_in(values):
            problem = _NOT_UTF8
        elif "\0" in joined:
            problem = _NUL
        if problem:
            begin = columns.delimiter.join(values)[:EXCERPT].encode("utf-8", "surrogateescape")
            yield Reject(name, start, problem, excerpt(begin))
            continue
        rows.append(values)
        positions.append(start)
        size += len(joined)
        if len(rows) >= _ROWS or size >= BLOCK:
            yield _raw(rows, positions, columns)
            rows, positions, size = [], [], 0
    if rows:
        yield _raw(rows, positions, columns)
    columns.notes.extend(quotes.notes)


def _raw(rows: list[list[str]], positions: list[int], columns: _Columns) -> Raw:
    raw = rows_of(rows, positions, columns.names, columns.drop)
    return raw._replace(delimiter=columns.delimiter, notes=columns.notes)


def rows_of(rows: list[list[str]], positions: list[int], names: list[str], drop: Container[str]) -> Raw:
    """Rows of text as columns."""
    columns = {
        name: tidy(pa.array(values, pa.string()))
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
        if name not in drop
    }
    return Raw(columns, np.array(positions, np.int64), {}, names)
