"""Rows of Parquet and Arrow files, with the names of classes that Hugging Face's `datasets` writes into them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.errors import UserError
from data_prep.labelled.rows import Asked, Reading
from data_prep.sources.arrow_text import plain_values
from data_prep.sources.records import first_line, is_the_files

SUFFIXES = (".parquet", ".arrow", ".feather")
_FEATURES = b"huggingface"  # key of a schema's metadata
_BATCH = 4096  # rows


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers, from 1, and fields of the rows; only wanted columns are read, if all are there.

    The number of a class becomes its name, where the file has names; numbers below 0 become None: not labelled.
    """
    number = 0
    try:
        with path.open("rb") as file:
            schema, batches = _opened(path, file, asked)
            named = class_names(_features(schema))
            reading.classes.update({name: named[name] for name in named if not asked.wanted or name in asked.wanted})
            for batch in batches:
                columns = [
                    _named(plain_values(column), reading.classes.get(name))
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                ]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, dict(zip(batch.schema.names, values, strict=True))
    except (pa.ArrowException, OSError, MemoryError) as error:
        if getattr(error, "errno", None) is not None or not is_the_files(error):
            raise  # of the disk or of the machine, not of the file
        raise UserError(f"{path} is damaged after row {number:,} ({first_line(error)}); write it again") from error


def class_names(features: Any) -> dict[str, list[str]]:
    """Names of classes by column, of the features that `datasets` describes columns by."""
    if not isinstance(features, dict):
        return {}
    named = {}
    for column, feature in features.items():
        if isinstance(feature, list) and feature:  # of a sequence, as older versions write it
            feature = feature[0]
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            named[column] = [str(name) for name in feature.get("names", [])]
    return named


def _features(schema: pa.Schema) -> Any:
    with suppress(ValueError, KeyError, TypeError):
        return json.loads((schema.metadata or {})[_FEATURES])["info"]["features"]
    return None


def _opened(path: Path, file: Any, asked: Asked) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches of a file, with its wanted columns."""
    if path.name.lower().endswith(".parquet"):
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        return schema, parquet.iter_batches(_BATCH, columns=_known(schema, asked))
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:  # then it is a stream
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        names = _known(stream.schema, asked)
        return stream.schema, (batch.select(names) for batch in stream)
    names = _known(reader.schema, asked)
    return reader.schema, (reader.get_batch(place).select(names) for place in range(reader.num_record_batches))


def _known(schema: pa.Schema, asked: Asked) -> list[str]:
    """Names of the columns that are read: those asked for (of `target.span` it is `target`); all if one is missing."""
    wanted, may_have = (
        {name if name in schema.names else name.partition(".")[0] for name in names}
        for names in (asked.wanted, asked.may_have)
    )
    are_there = wanted and wanted <= set(schema.names)
    return [name for name in schema.names if name in wanted | may_have] if are_there else schema.names


def _named(values: list[Any], names: list[str] | None) -> list[Any]:
    """Values with numbers of classes as their names, also within lists."""
    return values if names is None else [_name(value, names) for value in values]


def _name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return None if value < 0 else names[value] if value < len(names) else value
