"""Files of tables, written and read as tests need them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.sources.archives import SourceFile
from data_prep.sources.config import stamp_of
from data_prep.sources.records import Reject
from data_prep.tables.files import raw_batches

GOOD = "a,b,c\n1,x,2024-05-01\n2.5,y,2024-05-02 10:00\n,?,NA\n"
VALUES = {
    "a": [1.0, 2.5, None],
    "b": ["x", "y", None],
    "c": [datetime(2024, 5, 1), datetime(2024, 5, 2, 10), None],
}


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def file_of(path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(str(path), path.name, status.st_size, stamp_of(status.st_size, str(status.st_mtime_ns)))


def read(path: Path, **settings: Any) -> tuple[dict[str, list[Any]], list[Reject]]:
    """Columns as the reader gives them, with the positions as column ''."""
    columns: dict[str, list[Any]] = {}
    rejects = []
    for batch in raw_batches(file_of(path), settings.get("layout"), settings.get("drop", frozenset())):
        if isinstance(batch, Reject):
            rejects.append(batch)
            continue
        for name, values in {"": pa.array(batch.positions), **batch.columns}.items():
            columns.setdefault(name, []).extend(values.to_pylist())
    return columns, rejects
