"""Files of tables as units of a corpus: a file or a stretch of a large one each, cast once the schema is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.schema import ColumnKind, TableSchema
from data_prep.corpus.unit import RAW, REJECTS, Cast, Rejects, Tally, Unit, batches_of, write_cast
from data_prep.errors import UserError
from data_prep.sources import packages
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject
from data_prep.tables.files import raw_batches, stretches
from data_prep.tables.schema import (
    ColumnSettings,
    Raw,
    TableConfig,
    Typed,
    check_columns,
    column_settings,
    misfit,
    schema_of,
    typed,
)
from data_prep.tables.values import Evidence


def group(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """The files of each unit."""
    return ((part,) for file in files for part in stretches(file))


def asks(config: TableConfig, package: str | None) -> list[Any]:
    """The values that the result of `read` depends on, besides the file."""
    settings = _column_settings(package, config)
    layout = settings.layout and [settings.layout.columns, settings.layout.header, settings.layout.skip]
    return ["table", layout, sorted(settings.drop)]


def read(unit: Unit, config: TableConfig, folder: Path) -> dict[str, Any]:
    """Read the file of a unit; the summary describes its columns."""
    (file,) = unit.files
    settings = _column_settings(unit.package, config)
    tally, evidence, names = Tally(), dict[str, Evidence](), list[str]()
    writer: pa.RecordBatchFileWriter | None = None
    with Rejects(folder / REJECTS, tally) as rejects:
        try:
            for raw in raw_batches(file, settings.layout, settings.drop):
                if isinstance(raw, Reject):
                    tally.rows += 1
                    rejects.write(raw)
                    continue
                if writer is None:
                    names = list(raw.names)
                    evidence = {column: Evidence(raw.declared.get(column)) for column in raw.columns}
                batch = _as_batch(raw)
                writer = writer or pa.ipc.new_file(str(folder / RAW), batch.schema)
                writer.write_batch(batch)
                tally.rows += batch.num_rows
                for column, values in raw.columns.items():
                    evidence[column].see(values)
        finally:
            if writer is not None:
                writer.close()
    kinds = {name: column_evidence.kind for name, column_evidence in evidence.items()}
    return {**tally.to_json(), "file": file.name, "names": names, "kinds": kinds}


def agree(config: TableConfig, units: Sequence[Unit], read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The schema of the table, derived from the summaries of all units."""
    layouts = {packages.lookup(unit.package).layout if unit.package else config.layout for unit in units}
    if len(layouts) > 1:
        raise UserError("the sources of a table have different layouts; make a recipe for each")
    readable = [(unit, summary) for unit, summary in zip(units, read, strict=True) if summary["names"]]
    if not readable:
        return {"schema": TableSchema({}).to_json(), "first": ""}
    unit, first = readable[0]
    check_columns(first["file"], first["names"], _column_settings(unit.package, config))
    kinds_of: dict[str, set[ColumnKind]] = {column: set() for column in first["kinds"]}
    for _, summary in readable:
        if set(summary["kinds"]) == set(kinds_of):
            for column, kind in summary["kinds"].items():
                kinds_of[column] |= {kind} if kind else set()
    return {
        "schema": schema_of(_column_settings(unit.package, config), kinds_of, layouts.pop()).to_json(),
        "first": first["file"],
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
    content = content_keys(rows.columns, len(rows.positions))
    inputs = pa.StructArray.from_arrays(list(rows.columns.values()), fields=schema.fields)
    return Cast(inputs, content, rows.label, np.zeros(len(rows.positions), np.int32), rows.positions)


def _column_settings(package: str | None, config: TableConfig) -> ColumnSettings:
    return column_settings(config, packages.lookup(package).layout if package else None)


def _as_batch(raw: Raw) -> pa.RecordBatch:
    return pa.record_batch([pa.array(raw.positions), *raw.columns.values()], names=["", *raw.columns])


def _of_batch(batch: pa.RecordBatch) -> Raw:
    names = batch.schema.names[1:]
    columns = {name: batch.column(number) for number, name in enumerate(names, 1)}
    return Raw(columns, batch.column(0).to_numpy(), {})
