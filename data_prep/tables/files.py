"""Readers for files of tables, in batches of bounded size.

    .csv .tsv .tab   with a header, unless the layout names the columns; quoted fields may contain line ends
    .jsonl .ndjson   an object per line (also .jsonlines)
    .parquet .arrow  typed (.arrow: the file and the stream format; also .feather)
    .arff            typed attributes, dense rows

each also as .gz .bz2 .zst .xz and in a .tar or .zip, whose checksums are verified first. A row that cannot be read
becomes a `Reject`, and so does a file that cannot be read at all.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.corpus.schema import ColumnKind, TableSchema
from data_prep.sources import compressed
from data_prep.sources.archives import ARCHIVES, SourceFile, checked, damage, opened, watched
from data_prep.sources.arrow_text import not_utf8
from data_prep.sources.config import TARGET, Accepts
from data_prep.sources.cuts import cut_groups, group_rows
from data_prep.sources.files import open_file
from data_prep.sources.records import (
    HEAD,
    Reject,
    first_line,
    is_the_files,
    joined,
    lost,
    marked_encoding,
    not_encoded,
    recoded,
    seekable,
)
from data_prep.sources.separated import SUFFIXES, repeated
from data_prep.tables.arff import attribute_relation
from data_prep.tables.json_lines import json_lines
from data_prep.tables.layouts import LAYOUTS, Layout
from data_prep.tables.schema import LayoutName, Raw
from data_prep.tables.separated import separated
from data_prep.tables.typed import Typed, misfit, typed
from data_prep.tables.values import native

_BATCH = 8192  # rows
_KIND = "table"
_WHOLE = (".parquet",)  # nothing can be read of these if they are cut short
_TYPED = (".parquet", ".arrow", ".feather")


def accepts(layout_name: str | None) -> Accepts:
    """Which files are read; a layout may add file names."""
    layout = LAYOUTS.get(layout_name or "")

    def readable(name: str) -> bool:
        base = compressed.split(name)[0]
        has_known_name = base.lower().endswith(tuple(FORMATS)) or (layout is not None and layout.reads(base))
        return has_known_name or compressed.is_archive(name)

    allowed = f"{', '.join(FORMATS)} (each also .gz, .bz2, .zst, .xz), {ARCHIVES}"
    return Accepts(_KIND, readable, allowed, any_file=layout is not None)


def stretches(file: SourceFile) -> list[SourceFile]:
    """Cuts a large Parquet file into runs of row groups; any other file stays as it is."""
    if file.member or file.size <= TARGET or not file.name.lower().endswith(".parquet"):
        return [file]
    try:
        with open_file(file.uri) as stream:
            cuts = cut_groups(stream, TARGET)
    except OSError:
        return [file]  # the problem is reported when it is read
    if len(cuts) < 2:
        return [file]
    return [file._replace(size=cut.size, groups=(cut.start, cut.stop), first=cut.first) for cut in cuts]


def layout_of(schema: TableSchema) -> Layout | None:
    """The layout of files to be scored; None if they have a header.

    The layout of a package applies only to its own files, so files to be scored need a header.
    """
    return LAYOUTS.get(schema.layout or "") if schema.layout in get_args(LayoutName) else None


def typed_batches(file: SourceFile, schema: TableSchema) -> Iterator[Typed | Reject]:
    """The rows of a file to be scored, as columns of a given schema, with or without labels.

    Columns that are not in the schema are ignored. A row that cannot be read, or lacks a column, becomes a `Reject`;
    values that do not have their column's kind are reported with the rows (`Typed.odd`).
    """
    unknown_columns = AllBut(frozenset([*schema.kinds, *([schema.target] if schema.target else [])]))
    for raw in raw_batches(file, layout_of(schema), unknown_columns):
        if isinstance(raw, Reject):
            yield raw
            continue
        problem = misfit(raw, schema, "the training data", labelled=False)
        if problem:
            yield from (Reject(file.name, position, problem) for position in raw.positions.tolist())
            continue
        rows, _ = typed(file.name, raw, schema, keep_odd=True)
        if len(rows.positions):
            yield rows


@dataclass(frozen=True)
class AllBut(Container[str]):
    """All column names except `kept_names`."""

    kept_names: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return name not in self.kept_names


def raw_batches(file: SourceFile, layout: Layout | None, drop: Container[str]) -> Iterator[Raw | Reject]:
    """The rows of a file without the columns `drop`. UserError if it changes while it is read."""
    return watched(file, _batches(file, layout, drop))


def _batches(file: SourceFile, layout: Layout | None, drop: Container[str]) -> Iterator[Raw | Reject]:
    base, kind = compressed.split(file.name)
    suffix = next((suffix for suffix in FORMATS if base.lower().endswith(suffix)), ".csv")
    sound = checked(file)
    if not sound.problem or (sound.usable and suffix not in _WHOLE):
        with opened(file) as raw, closing(compressed.opened(raw, kind)) as stream:
            if file.groups is None:
                usable = compressed.usable(stream, sound, by_line=suffix not in _TYPED)
                for part in _in_format(file, suffix, usable, layout, drop):
                    if not (sound.problem and isinstance(part, Reject) and part.lost):  # reported below
                        yield part
            else:
                yield from _parquet(file.name, stream, layout, drop, range(*file.groups), file.first)
    yield from damage(file, sound)


def _in_format(
    file: SourceFile, suffix: str, stream: BinaryIO, layout: Layout | None, drop: Container[str]
) -> Iterator[Raw | Reject]:
    """The rows of a stream by the suffix of its file; text is decoded first."""
    reader = FORMATS[suffix]
    if suffix in _TYPED:
        yield from reader(file.name, stream, layout, drop)
        return
    if file.encoding is None:
        head = stream.read(HEAD)
        if problem := marked_encoding(head):
            yield lost(file.name, 1, problem)
            return
        stream = joined(head, stream)
    if file.delimiter is not None and suffix in SUFFIXES:
        reader = partial(separated, delimiter=file.delimiter, is_known=True)
    try:
        yield from reader(file.name, recoded(stream, file.encoding), layout, drop)
    except UnicodeError as error:
        yield lost(file.name, 1, not_encoded(file.encoding, error))


def _parquet(
    name: str,
    stream: BinaryIO,
    layout: Layout | None,
    drop: Container[str],
    groups: range | None = None,
    first: int = 0,
) -> Iterator[Raw | Reject]:
    """The rows of a file, or of the row groups `groups`, which have `first` rows before them."""

    def opened(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch], int | None]:
        table = pq.ParquetFile(file)
        group_numbers = list(groups or range(table.metadata.num_row_groups))
        wanted = [column for column in table.schema_arrow.names if column not in drop]
        rows = table.metadata.num_rows if groups is None else sum(group_rows(table.metadata)[n] for n in group_numbers)
        return table.schema_arrow, table.iter_batches(_BATCH, row_groups=group_numbers, columns=wanted), rows

    return _columns(name, stream, drop, opened, first)


def _arrow(name: str, stream: BinaryIO, layout: Layout | None, drop: Container[str]) -> Iterator[Raw | Reject]:
    def opened(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch], int | None]:
        magic = file.read(6)
        file.seek(0)
        if magic != b"ARROW1":
            reader = pa.ipc.open_stream(file)
            return reader.schema, iter(reader), None
        table = pa.ipc.open_file(file)
        return table.schema, (table.get_batch(number) for number in range(table.num_record_batches)), None

    return _columns(name, stream, drop, opened)


def _columns(
    name: str,
    stream: BinaryIO,
    drop: Container[str],
    opened: Callable[[BinaryIO], tuple[pa.Schema, Iterator[pa.RecordBatch], int | None]],
    first: int = 0,
) -> Iterator[Raw | Reject]:
    """Batches of a typed file after its `first` rows. The number of rows is checked if the file states it."""
    rows = 0
    try:
        with seekable(stream) as file:
            schema, batches, count = opened(file)
            problem = _unusable(schema, drop)
            if problem:
                yield lost(name, 1, problem)
                return
            for batch in batches:
                bad = np.any([not_utf8(column) for column in batch.columns], axis=0) & np.ones(batch.num_rows, bool)
                for row in np.flatnonzero(bad).tolist():
                    yield Reject(name, first + rows + row + 1, "not UTF-8")
                for start in range(0, batch.num_rows, _BATCH):
                    keep = np.flatnonzero(~bad[start : start + _BATCH])
                    part = batch.slice(start, _BATCH)
                    if len(keep):
                        chosen = part if len(keep) == part.num_rows else part.take(pa.array(keep))
                        yield _raw(chosen, schema.names, drop, first + rows + 1 + keep)
                    rows += part.num_rows
            if count is not None and rows != count:
                raise ValueError(f"it should hold {count} rows, not {rows}")
            if not rows:
                yield lost(name, 1, "no row in the file")
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if not is_the_files(error):
            raise
        yield lost(name, first + rows + 1, f"damaged file, not read from here on: {first_line(error)}")


def _unusable(schema: pa.Schema, drop: Container[str]) -> str | None:
    names = [name for name in schema.names if name not in drop]
    twice = repeated(names)
    if twice is not None:
        return f"more than one column is called {twice!r}"
    for name in names:
        kind = schema.field(name).type
        if native(pa.nulls(0, kind)) is None:
            return f"column {name!r} holds {kind}, which is no number, text or date; name it in data.table.drop"
    return None


def _raw(batch: pa.RecordBatch, names: list[str], drop: Container[str], positions: np.ndarray) -> Raw:
    columns: dict[str, pa.Array] = {}
    declared: dict[str, ColumnKind] = {}
    for name in batch.schema.names:
        values = None if name in drop else native(batch[name])
        if values is not None:
            columns[name] = values[0]
            if values[1] is not None:
                declared[name] = values[1]
    return Raw(columns, positions, declared, names)


Reader = Callable[[str, BinaryIO, Layout | None, Container[str]], Iterator[Raw | Reject]]
FORMATS: dict[str, Reader] = {
    ".csv": partial(separated, delimiter=","),
    ".tsv": partial(separated, delimiter="\t"),
    ".tab": partial(separated, delimiter="\t"),
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".jsonlines": json_lines,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".arff": attribute_relation,
}
