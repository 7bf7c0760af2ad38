"""Readers for tables with a document per row: CSV, TSV, Parquet and Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources.arrow_text import plain_values
from data_prep.sources.cuts import group_rows
from data_prep.sources.dialect import begun, unique_names
from data_prep.sources.records import (
    EXCERPT,
    Fields,
    Lines,
    Reject,
    Row,
    excerpt,
    first_line,
    is_the_files,
    lost,
    row_of,
    seekable,
)
from data_prep.sources.separated import Quotes, not_utf8_in, records

_BATCH = 128  # rows in memory; a small file may decompress to long rows


def comma_separated(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    return _separated(name, stream, fields, ",")


def tab_separated(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    return _separated(name, stream, fields, "\t")


def _separated(name: str, stream: BinaryIO, fields: Fields, usual: str) -> Iterator[Row]:
    wanted = list(fields.asked)
    stream, dialect = begun(stream, usual, wanted, fields.delimiter)
    if dialect.problem:
        yield lost(name, 1, dialect.problem)
        return
    lines = Lines(stream)
    for _ in range(dialect.skip):
        next(lines, None)
    header, rows, quotes = None, 0, Quotes()
    for record in records(name, lines, dialect.delimiter, quotes=quotes):
        if isinstance(record, Reject):
            rows += 1
            yield record
            continue
        start, values = record
        if header is None:
            names = (name if name in wanted else name.strip() for name in values)
            values = [name or f"column {place}" for place, name in enumerate(names, 1)]
            problem = _wrong_header(values, wanted)
            if problem:
                yield lost(name, start, problem)
                return
            header, renamed = unique_names(values)
            if fields.remarks is not None:
                fields.remarks.notes.extend((name, note) for note in (*dialect.notes, *renamed))
            continue
        rows += 1
        begin = excerpt(dialect.delimiter.join(values)[:EXCERPT].encode("utf-8", "surrogateescape"))
        if len(values) != len(header):
            yield Reject(name, start, f"expected {len(header)} fields as in the header, found {len(values)}", begin)
            continue
        row = dict(zip(header, values, strict=True))
        if not_utf8_in([row[key] for key in fields.asked]):
            yield Reject(name, start, "not UTF-8", begin)
        else:
            yield row_of(name, start, row, fields, begin)
    if fields.remarks is not None:
        fields.remarks.notes.extend((name, note) for note in quotes.notes)
    if not rows:
        yield lost(name, 1, "empty file" if header is None else "no row below the header")


def _wrong_header(header: list[str], wanted: list[str]) -> str | None:
    for key in wanted:
        if key not in header:
            return f"no column {key!r}; found {', '.join(map(repr, header))}"
        if header.count(key) > 1:
            return f"more than one column is called {key!r}"
    return None


class _Group(NamedTuple):
    """Rows that are lost together if damaged; `first`: number of rows before, `count`: expected rows, if known."""

    what: str
    first: int
    count: int | None
    batches: Iterator[pa.RecordBatch]


def parquet(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with seekable(stream) as file:
        yield from table(name, fields, lambda: parquet_groups(file, fields))


def parquet_groups(
    file: BinaryIO, fields: Fields, start: int = 0, stop: int | None = None
) -> tuple[pa.Schema, Iterator[_Group]]:
    table = pq.ParquetFile(file)
    schema, counts = table.schema_arrow, group_rows(table.metadata)
    columns = [field.name for field in schema if _is_value(field.type)]
    firsts = list(accumulate(counts, initial=0))

    def batches(number: int) -> Iterator[pa.RecordBatch]:
        """The rows of a group: without the columns that nobody asked for, once one of them cannot be read."""
        rows = 0
        try:
            for batch in table.iter_batches(_BATCH, row_groups=[number], columns=columns):
                yield batch
                rows += batch.num_rows
            return
        except (pa.ArrowException, OSError, ValueError) as error:
            if not is_the_files(error) or set(columns) == set(fields.asked):
                raise
        for batch in table.iter_batches(_BATCH, row_groups=[number], columns=list(fields.asked)):
            yield batch.slice(rows)
            rows = max(0, rows - batch.num_rows)

    def groups() -> Iterator[_Group]:
        for number in range(len(counts))[start:stop]:
            yield _Group("row group", firsts[number], counts[number], batches(number))

    return schema, groups()


def arrow(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with seekable(stream) as file:
        yield from table(name, fields, lambda: _arrow_groups(file))


def _arrow_groups(file: BinaryIO) -> tuple[pa.Schema, Iterator[_Group]]:
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        table = pa.ipc.open_file(file)
        schema, batches = table.schema, (table.get_batch(number) for number in range(table.num_record_batches))
    else:
        stream = pa.ipc.open_stream(file)
        schema, batches = stream.schema, iter(stream)
    return schema, iter([_Group("file", 0, None, batches)])


def table(
    name: str, fields: Fields, opened: Callable[[], tuple[pa.Schema, Iterator[_Group]]], reports_problems: bool = True
) -> Iterator[Row]:
    """The rows of a table's groups; `reports_problems`: whether to report problems of the complete table."""
    read = 0
    try:
        schema, groups = opened()
        problem = _missing(schema, fields)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if not is_the_files(error):
            raise
        yield lost(name, 1, f"damaged file, not read from here on: {first_line(error)}")
        return
    if problem:
        if reports_problems:
            yield lost(name, 1, problem)
        return
    for group in groups:
        position = group.first
        try:
            for batch in group.batches:
                for row in _table_rows(batch):
                    position += 1
                    read += 1
                    begin = excerpt(str(row[fields.text] or "")[:EXCERPT].encode("utf-8", "surrogateescape"))
                    if not_utf8_in([value for key in fields.asked if isinstance(value := row[key], str)]):
                        yield Reject(name, position, "not UTF-8", begin)
                    else:
                        yield row_of(name, position, row, fields, begin)
            if group.count is not None and position - group.first != group.count:
                raise ValueError(f"it should hold {group.count} rows")
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            if not is_the_files(error):
                raise
            read += 1
            yield lost(name, position + 1, f"damaged {group.what}, not read from here on: {first_line(error)}")
    if not read and reports_problems:
        yield lost(name, 1, "no row in the file")


def _missing(schema: pa.Schema, fields: Fields) -> str | None:
    for key in fields.asked:
        if key not in schema.names:
            return f"no column {key!r}; found {', '.join(map(repr, schema.names)) or 'none'}"
        if schema.names.count(key) > 1:
            return f"more than one column is called {key!r}"
        if not _is_value(schema.field(key).type):
            return f"column {key!r}: expected strings, found {schema.field(key).type}"
    kind = schema.field(fields.text).type
    return None if _is_text(kind) else f"column {fields.text!r}: expected strings, found {kind}"


def _table_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as plain values. Bytes that are not UTF-8 become surrogates (see `not_utf8_in`)."""
    for start in range(0, len(batch), _BATCH):
        part = batch.slice(start, _BATCH)
        columns = {field.name: part.column(i) for i, field in enumerate(part.schema) if _is_value(field.type)}
        values = [plain_values(column) for column in columns.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))


def _is_value(kind: pa.DataType) -> bool:
    """Whether a column's type can be stored in a document's metadata: text, numbers, booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return _is_text(kind) or any(check(kind) for check in checks)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
