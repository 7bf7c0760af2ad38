"""Writes shards, and joins those that were written apart; `data_prep.shards.format` describes the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.sealed import digest, mapped, sealed, write_whole
from data_prep.shards.format import FORMAT, INDEX, MAGIC, Layout, parts_file, to_arrow
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, Rows, concat, network_input, num_rows, take


class ShardWriter:
    """Writes rows to a folder: call `write` any number of times, then `close`, which makes it readable.

    rows_per_shard, rows_per_batch: rows of a file, and of a record batch (the unit of digests and
    of reading); the last ones may be shorter. Memory: about one record batch besides the rows of one
    call of `write`.
    """

    def __init__(
        self,
        folder: Path,
        rows_per_shard: int,
        rows_per_batch: int = 1024,
        layout: Layout = "ragged",
    ) -> None:
        self.folder = Path(folder)
        self.layout: Layout = layout
        self.rows_per_shard, self.rows_per_batch = (
            rows_per_shard,
            min(rows_per_batch, rows_per_shard),
        )
        if rows_per_shard < 1 or rows_per_batch < 1:
            raise ValueError("rows_per_shard and rows_per_batch must be at least 1")
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / INDEX).exists():
            raise FileExistsError(f"{self.folder} already holds finished shards")
        self._pending: list[Rows] = []
        self._num_pending = self._rows = self._items = 0
        self._schema: pa.Schema | None = None
        self._types: dict[str, str] | None = None
        self._shards: list[dict[str, Any]] = []
        self._open: tuple[pa.NativeFile, pa.RecordBatchFileWriter] | None = None
        self._bounds: list[int] = []  # of the parts of the shard being written: head, batches

    def write(self, rows: Rows) -> None:
        """Append rows. ValueError if columns or types differ from those of earlier rows."""
        count = num_rows(rows)
        if count == 0:
            return
        types = {name: _type_of(rows[name]) for name in sorted(rows)}
        self._types = self._types or types
        if types != self._types:
            raise ValueError(f"rows with {types} do not fit shards with {self._types}")
        self._pending.append(rows)
        self._num_pending += count
        if self._num_pending >= self._wanted():
            self._drain(everything=False)

    def close(self, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the remaining rows and the index, which includes `extra` (JSON). Returns the index."""
        self._drain(everything=True)
        self._end_shard()
        columns = {field.name: str(field.type) for field in self._schema or ()}
        index = {"format": FORMAT, "layout": self.layout, "columns": columns, "rows": self._rows}
        index |= {"rows_per_batch": self.rows_per_batch, "items": self._items}
        index |= {"shards": self._shards, "extra": extra or {}}
        write_whole(self.folder / INDEX, sealed(index))
        return index

    def _wanted(self) -> int:
        """Number of rows of the next record batch: batches do not cross the ends of shards."""
        return min(self.rows_per_batch, self.rows_per_shard - self._rows % self.rows_per_shard)

    def _drain(self, everything: bool) -> None:
        if not self._num_pending:
            return
        rows, start = concat(self._pending), 0
        while (left := self._num_pending - start) and (everything or left >= self._wanted()):
            stop = start + min(left, self._wanted())
            self._write_batch(take(rows, np.arange(start, stop)))
            start = stop
        self._pending = [take(rows, np.arange(start, self._num_pending))] if left else []
        self._num_pending = left

    def _write_batch(self, rows: Rows) -> None:
        names = sorted(rows)
        arrays = [to_arrow(rows[name], name, self.layout) for name in names]
        batch = pa.record_batch(arrays, names=names)
        schema = self._schema = self._schema or batch.schema
        if self._open is None:
            path = self.folder / f"shard-{len(self._shards):05d}.arrow"
            sink = pa.OSFile(str(path), "wb")
            self._open = sink, pa.ipc.new_file(sink, schema)
            self._bounds = [0, len(MAGIC) + schema.serialize().size]
            self._shards.append({"file": path.name, "rows": 0})
        sink, writer = self._open
        writer.write_batch(batch)
        self._bounds.append(sink.tell())
        self._shards[-1]["rows"] += batch.num_rows
        self._rows += batch.num_rows
        self._items += _num_items(rows)
        if self._rows % self.rows_per_shard == 0:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._open is None:
            return
        sink, writer = self._open
        writer.close()
        self._bounds.append(sink.tell())
        sink.close()
        self._open = None
        shard = self._shards[-1]
        data = mapped(self.folder / shard["file"])
        digests = [digest(data[start:end]) for start, end in pairwise(self._bounds)]
        parts = sealed({"bounds": self._bounds, "digests": digests})
        write_whole(parts_file(self.folder, shard["file"]), parts)
        shard |= {"bytes": len(data), "parts": digest(parts)}


def _type_of(column: Ragged | np.ndarray) -> str:
    """The type of a column's rows as text, for comparison and messages."""
    values = column.values if isinstance(column, Ragged) else column
    dtype = np.dtype(np.uint8) if values.dtype == bool else values.dtype
    run = "run of " if isinstance(column, Ragged) else ""
    return f"{run}{dtype.name}{list(values.shape[1:]) or ''}"


def _num_items(rows: Rows) -> int:
    """Total number of tokens or frames in the rows; 0 if each row is a single array."""
    column = network_input(rows) if "seen" in rows or "input" in rows else None
    return len(column.values) if isinstance(column, Ragged) else 0


def join(folder: Path, pieces: Sequence[Path], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Concatenate the finished shards of `pieces` in `folder`, by moving their files. Returns the index."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    indices = [Shards(piece).index for piece in pieces]
    if len({json.dumps([index["layout"], index["columns"], index["rows_per_batch"]]) for index in indices}) > 1:
        raise ValueError(f"shards of different columns cannot be joined: {[index['columns'] for index in indices]}")
    shards: list[dict[str, Any]] = []
    for piece, index in zip(pieces, indices, strict=True):
        for shard in index["shards"]:
            name = f"shard-{len(shards):05d}.arrow"
            (piece / shard["file"]).replace(folder / name)
            parts_file(piece, shard["file"]).replace(parts_file(folder, name))
            shards.append({**shard, "file": name})
        shutil.rmtree(piece)
    sums = {what: sum(index[what] for index in indices) for what in ("rows", "items")}
    joined = {**indices[0], **sums, "shards": shards, "extra": extra or {}}
    write_whole(folder / INDEX, sealed(joined))
    return joined
