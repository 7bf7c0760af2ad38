"""Files of tables as units of a corpus: a file or a stretch of a large one each, cast once the schema is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.schema import TableSchema
from data_prep.corpus.summary import notes_of_files
from data_prep.corpus.unit import RAW, REJECTS, Cast, Rejects, Tally, Unit, batches_of, write_cast
from data_prep.errors import UserError
from data_prep.sources import packages
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject
from data_prep.tables.column_notes import notes
from data_prep.tables.evidence import Evidence
from data_prep.tables.files import raw_batches, stretches
from data_prep.tables.schema import (
    ColumnSettings,
    Raw,
    TableConfig,
    check_columns,
    column_settings,
    schema_of,
)
from data_prep.tables.typed import Typed, misfit, typed

FORMAT = 3  # of what `read` writes


def group(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """The files of each unit."""
    return ((part,) for file in files for part in stretches(file))


def asks(config: TableConfig, package: str | None) -> list[Any]:
    """The values that the result of `read` depends on, besides the file."""
    settings = _column_settings(package, config)
    layout = settings.layout and [settings.layout.columns, settings.layout.header, settings.layout.skip]
    return ["table", FORMAT, layout, sorted(settings.drop), config.missing, config.decimal]


def read(unit: Unit, config: TableConfig, folder: Path) -> dict[str, Any]:
    """Read the file of a unit; the summary describes its columns."""
    (file,) = unit.files
    settings = _column_settings(unit.package, config)
    tally, evidence, names = Tally(), dict[str, Evidence](), list[str]()
    said: Sequence[str] = ()
    writer: pa.RecordBatchFileWriter | None = None
    with Rejects(folder / REJECTS, tally) as rejects:
        try:
            for raw in raw_batches(file, settings.layout, settings.drop):
                if isinstance(raw, Reject):
                    tally.rows += 1
                    rejects.write(raw)
                    continue
                if writer is None:
                    names, said = list(raw.names), raw.notes
                    evidence = {column: _evidence(column, raw, config) for column in raw.columns}
                batch = _as_batch(raw)
                writer = writer or pa.ipc.new_file(str(folder / RAW), batch.schema)
                writer.write_batch(batch)
                tally.rows += batch.num_rows
                for column, values in raw.columns.items():
                    evidence[column].see(values)
        finally:
            if writer is not None:
                writer.close()
    of_columns = {name: of_column.to_json() for name, of_column in evidence.items()}
    return {**tally.to_json(), "file": file.name, "names": names, "columns": of_columns, "notes": list(said)}


def _evidence(column: str, raw: Raw, config: TableConfig) -> Evidence:
    in_categories, in_measures = config.markers(column, "categorical"), config.markers(column, "numeric")
    expects_commas = raw.delimiter == ";"
    return Evidence(raw.declared.get(column), in_categories, in_measures, config.decimal, expects_commas)


def agree(config: TableConfig, units: Sequence[Unit], read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The schema of the table, derived from the summaries of all units."""
    layouts = {packages.lookup(unit.package).layout if unit.package else config.layout for unit in units}
    if len(layouts) > 1:
        raise UserError("the sources of a table have different layouts; make a recipe for each")
    readable = [(unit, summary) for unit, summary in zip(units, read, strict=True) if summary["names"]]
    if not readable:
        return {"schema": TableSchema({}).to_json(), "first": "", "notes": []}
    unit, first = readable[0]
    settings = _column_settings(unit.package, config)
    check_columns(first["file"], first["names"], settings, config)
    alike = [summary["columns"] for _, summary in readable if set(summary["columns"]) == set(first["columns"])]
    files = {column: [Evidence.of_json(columns[column]) for columns in alike] for column in first["columns"]}
    schema = schema_of(config, settings, files, layouts.pop())
    written = {(unit.files[0].encoding, unit.files[0].delimiter) for unit in units}
    if len(written) == 1:  # files to be scored are written alike
        encoding, delimiter = written.pop()
        schema = replace(schema, encoding=encoding, delimiter=delimiter)
    together = {column: Evidence.of_files(evidence) for column, evidence in files.items()}
    of_files = notes_of_files([(summary["file"], note) for summary in read for note in summary["notes"]])
    return {
        "schema": schema.to_json(),
        "first": first["file"],
        "notes": [*of_files, *notes(schema, together, settings.kinds)],
    }


def cast(unit: Unit, agreed: dict[str, Any], read_folder: Path, folder: Path) -> dict[str, Any]:
    """Convert the rows of a unit to the schema; returns a summary."""
    schema = TableSchema.of_json(agreed["schema"])
    return write_cast(folder, [file.name for file in unit.files], _cast(unit, schema, agreed["first"], read_folder))


def _cast(unit: Unit, schema: TableSchema, first: str, read_folder: Path) -> Iterator[Cast | Reject]:
    (file,) = unit.files
    for batch in batches_of(read_folder / RAW):
        raw = _of_batch(batch)
        problem = misfit(raw, schema, first)
        if problem:
            for position in raw.positions.tolist():
                yield Reject(file.name, position, problem)
            continue
        rows, rejects = typed(file.name, raw, schema)
        yield from rejects
        if len(rows.positions):
            yield cast_rows(rows, schema)


def cast_rows(rows: Typed, schema: TableSchema) -> Cast:
    """Rows of a table in the form of a corpus."""
    content = content_keys(rows.columns, len(rows.positions), rows.beyond_float)
    inputs = pa.StructArray.from_arrays(list(rows.columns.values()), fields=schema.fields)
    files = np.zeros(len(rows.positions), np.int32)
    times = None if schema.time is None else latest_first(rows.columns[schema.time], content)
    return Cast(inputs, content, rows.label, files, rows.positions, times)


def latest_first(times: pa.Array, content: np.ndarray) -> np.ndarray:
    """[R, 2] uint64 whose order is that of times (float64 or timestamp[us], none missing) from the latest to the first;
    equal ones are ordered by their contents [R, 2]."""
    values = (
        times.to_numpy(zero_copy_only=False) if pa.types.is_floating(times.type) else times.cast(pa.int64()).to_numpy()
    )
    bits = (values + 0.0 if values.dtype == np.float64 else values).view(np.int64)
    if values.dtype == np.float64:
        bits = np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)  # so that they have the order of the numbers
    return np.stack([~(bits.view(np.uint64) ^ np.uint64(1 << 63)), content[:, 0]], 1)


def _column_settings(package: str | None, config: TableConfig) -> ColumnSettings:
    return column_settings(config, packages.lookup(package).layout if package else None)


def _as_batch(raw: Raw) -> pa.RecordBatch:
    return pa.record_batch([pa.array(raw.positions), *raw.columns.values()], names=["", *raw.columns])


def _of_batch(batch: pa.RecordBatch) -> Raw:
    names = batch.schema.names[1:]
    columns = {name: batch.column(number) for number, name in enumerate(names, 1)}
    return Raw(columns, batch.column(0).to_numpy(), {})
