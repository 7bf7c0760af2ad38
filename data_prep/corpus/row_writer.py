"""Writes an Arrow file row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

_BATCH_ROWS, _BATCH_CHARACTERS = 1024, 2 << 20


class Writer:
    """Writes rows to an Arrow file in batches of bounded size. The bytes depend only on the rows."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str | None = None) -> None:
        self._schema = schema
        self._writer = pa.ipc.new_file(str(path), schema, options=pa.ipc.IpcWriteOptions(compression=compression))
        self._rows: list[Sequence[Any]] = []
        self._size = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, row: Sequence[Any], size: int) -> None:
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= _BATCH_ROWS or self._size >= _BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows, self._size = [], 0
