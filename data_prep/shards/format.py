"""Shard format: rows in memory-mapped Arrow files, read without copying, with digests of all bytes.

    folder/
      shard-00000.arrow   Arrow IPC file: head (magic, schema) · record batches · tail (footer)
      shard-00000.json    offsets and digests of its head, batches and tail
      shard-00001.arrow   …
      index.json          written last: contents of the files, digest of each shard's JSON

Opening reads only the index, one line per shard, so that it is fast even for a million shards.

The files are a pure function of the rows, independent of the calls of `write`. The digest of a
record batch is checked on first access; a flipped byte or a truncated or missing file is reported and
never trained on. (Arrow's own validation accepts about half of all single flipped bytes.)

A Ragged column is stored as LargeList (layout "ragged"), or as FixedSizeList where all rows have
one length (layout "blocks"); items with axes of their own, in a row or one to a row, as Arrow's
fixed-shape tensors, which know their shape. Booleans become uint8.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from data_prep.errors import UserError
from data_prep.sealed import digest, mapped, sealed, unsealed, write_whole
from data_prep.shards.rows import Ragged, Rows, concat, network_input, num_rows, take

FORMAT = 3
INDEX = "index.json"
MAGIC = b"ARROW1\0\0"  # at the start of an Arrow file; the schema message follows
OPEN_BATCHES = 4096  # views that a reader caches; their data stays in the page cache

Layout = Literal["blocks", "ragged"]


class ShardDamaged(UserError):  # noqa: N818 - says what happened, as UserError's kin do
    """A stored shard is damaged."""


def to_arrow(column: Ragged | np.ndarray, name: str, layout: Layout) -> pa.Array:
    """A column as an Arrow array that shares its values."""
    values = column.values if isinstance(column, Ragged) else column
    if values.dtype == bool:
        values = values.view(np.uint8)
    items = _items_to_arrow(values)
    if not isinstance(column, Ragged):
        return items
    if layout == "ragged":
        return pa.LargeListArray.from_arrays(pa.array(column.offsets), items)
    lengths = column.lengths
    if (lengths != lengths[0]).any():
        lengths_shown = f"{lengths.min()} to {lengths.max()} values"
        raise ValueError(f"layout blocks needs rows of one length, but the column {name} has {lengths_shown}")
    return pa.FixedSizeListArray.from_arrays(items, int(lengths[0]))


def from_arrow(array: pa.Array) -> Ragged | np.ndarray:
    """The column of an Arrow array, as read-only views of its buffers."""
    if pa.types.is_large_list(array.type):
        offsets = array.offsets.to_numpy(zero_copy_only=True)
        return Ragged(_items_from_arrow(array.values), offsets)
    if pa.types.is_fixed_size_list(array.type):
        offsets = np.arange(len(array) + 1, dtype=np.int64) * array.type.list_size
        return Ragged(_items_from_arrow(array.values), offsets)
    return _items_from_arrow(array)


def _items_to_arrow(values: np.ndarray) -> pa.Array:
    """[N, *item] as N values, or tensors of their shape."""
    if values.ndim == 1:
        return pa.array(values)
    item = values.shape[1:]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(item))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, item), storage)


def _items_from_arrow(array: pa.Array) -> np.ndarray:
    """[N, *item], not copied."""
    if isinstance(array, pa.FixedShapeTensorArray):
        flat = array.storage.values.to_numpy(zero_copy_only=True)
        return flat.reshape(len(array), *array.type.shape)
    return array.to_numpy(zero_copy_only=True)


class Part(NamedTuple):
    """A range of a shard's bytes with a digest."""

    start: int
    end: int
    digest: str


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
        write_whole(_parts_file(self.folder, shard["file"]), parts)
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
            _parts_file(piece, shard["file"]).replace(_parts_file(folder, name))
            shards.append({**shard, "file": name})
        shutil.rmtree(piece)
    sums = {what: sum(index[what] for index in indices) for what in ("rows", "items")}
    joined = {**indices[0], **sums, "shards": shards, "extra": extra or {}}
    write_whole(folder / INDEX, sealed(joined))
    return joined


def _parts_file(folder: Path, shard: str) -> Path:
    return folder / Path(shard).with_suffix(".json")


class Shards:
    """Reader for a folder that `ShardWriter` finished.

    `artifact` is the name that error messages suggest to delete (default: the folder). Opening reads
    only the index. Can be pickled; each process maps and checks files itself. UserError if the folder
    has no index.
    """

    def __init__(self, folder: Path, artifact: str = "") -> None:
        self.folder, self.artifact = Path(folder), artifact or str(folder)
        data = self._contents(INDEX)
        if data is None:
            raise UserError(f"{self._where()} holds no finished shards ({INDEX} is missing): write them first")
        try:
            self.index = unsealed(data)
        except ValueError as error:
            raise self._damage(INDEX, f"cannot be trusted: {error}") from error
        version = self.index.get("format")
        if version != FORMAT:
            raise UserError(
                f"{self._where(INDEX)} has shard format {version}, but this version reads {FORMAT}: "
                f"delete the artifact {self.artifact} and run again"
            )
        self.rows: int = self.index["rows"]
        self.items: int = self.index["items"]  # tokens or frames of all rows; 0 if rows are single arrays
        self.columns: dict[str, str] = self.index["columns"]
        self.extra: dict[str, Any] = self.index["extra"]
        rows = np.array([shard["rows"] for shard in self.index["shards"]], np.int64)
        batches = -(-rows // self.index["rows_per_batch"])
        self._first = np.concatenate([[0], np.cumsum(batches)])  # batch of each shard
        counts = np.full(self._first[-1], self.index["rows_per_batch"], np.int64)
        counts[self._first[1:] - 1] = rows - (batches - 1) * self.index["rows_per_batch"]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._readers: dict[int, tuple[memoryview, pa.RecordBatchFileReader]] = {}
        self._parts: dict[int, list[Part]] = {}
        self._views: OrderedDict[int, Rows] = OrderedDict()
        self._checked = np.zeros(len(counts), bool)

    def __len__(self) -> int:
        return self.rows

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.folder, self.artifact)

    @property
    def num_batches(self) -> int:
        """Record batches over all files."""
        return len(self._checked)

    def batch(self, number: int) -> Rows:
        """All rows of one record batch as read-only views of the mapped file: nothing is copied."""
        if number in self._views:
            self._views.move_to_end(number)
            return self._views[number]
        shard = int(np.searchsorted(self._first, number, side="right")) - 1
        place = number - int(self._first[shard])
        batch = self._record_batch(number, shard, place)
        view = {name: from_arrow(batch.column(name)) for name in batch.schema.names}
        self._views[number] = view
        if len(self._views) > OPEN_BATCHES:
            self._views.popitem(last=False)
        return view

    def _record_batch(self, number: int, shard: int, place: int) -> pa.RecordBatch:
        data, reader = self._reader(shard)
        if not self._checked[number]:
            self._check(shard, self._parts_of(shard)[1 + place], self._named(number, place), data)
            self._checked[number] = True
        return reader.get_batch(place)

    def _named(self, number: int, place: int) -> str:
        return f"record batch {place}, rows {self._starts[number]}–{self._starts[number + 1] - 1} of the data"

    def read(self, index: ArrayLike) -> Rows:
        """The rows with the indices `index` [R], in that order; repeats are allowed. IndexError if out of range.

        Copies only these rows; consecutive rows of one record batch are read-only views.
        """
        index = np.asarray(index, np.int64)
        if not len(index):
            return take(self.batch(0), index) if self.rows else {}
        if index.min() < 0 or index.max() >= self.rows:
            raise IndexError(f"rows {index.min()} to {index.max()} of {self.rows}")
        number = np.searchsorted(self._starts, index, side="right") - 1
        by_batch = np.argsort(number, kind="stable")
        bounds = np.flatnonzero(np.diff(number[by_batch], prepend=-1))
        groups = np.split(by_batch, bounds[1:])
        parts = [
            take(self.batch(n), index[g] - self._starts[n])
            for n, g in zip(number[by_batch[bounds]], groups, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        back = np.empty(len(index), np.int64)
        back[by_batch] = np.arange(len(index))
        return take(concat(parts), back)

    def lengths(self, index: ArrayLike) -> np.ndarray:
        """[R] int64: numbers of items of the rows `index` [R]; reads only offsets.

        ValueError if rows are not sequences of items.
        """
        index = np.asarray(index, np.int64)
        number = np.searchsorted(self._starts, index, side="right") - 1
        lengths = np.empty(len(index), np.int64)
        for n in np.unique(number):
            mine = number == n
            column = network_input(self.batch(int(n)))
            if not isinstance(column, Ragged):
                raise ValueError(f"rows of {self._where()} are arrays of one shape, which have no lengths")
            row = index[mine] - self._starts[n]
            lengths[mine] = column.offsets[row + 1] - column.offsets[row]
        return lengths

    def verify(self) -> list[str]:
        """Check every byte of every file; returns a message for each damaged part."""
        problems = []
        for number in range(len(self.index["shards"])):
            try:
                data, parts = self._map(number), self._parts_of(number)
            except ShardDamaged as error:
                problems.append(str(error))
                continue
            names = ["head", *(f"record batch {b}" for b in range(len(parts) - 2)), "tail"]
            for name, part in zip(names, parts, strict=True):
                try:
                    self._check(number, part, name, data)
                except ShardDamaged as error:
                    problems.append(str(error))
        return problems

    def _map(self, number: int) -> memoryview:
        shard = self.index["shards"][number]
        path = self.folder / shard["file"]
        if not path.is_file():
            raise self._damage(shard["file"], "is missing")
        if (size := path.stat().st_size) != shard["bytes"]:
            raise self._damage(shard["file"], f"has {size} bytes where {shard['bytes']} were written")
        return mapped(path)

    def _reader(self, number: int) -> tuple[memoryview, pa.RecordBatchFileReader]:
        if number not in self._readers:
            data, parts = self._map(number), self._parts_of(number)
            self._check(number, parts[0], "head", data)
            self._check(number, parts[-1], "tail", data)
            self._readers[number] = data, pa.ipc.open_file(pa.py_buffer(data))
        return self._readers[number]

    def _parts_of(self, number: int) -> list[Part]:
        """Head, batches and tail of a shard."""
        if number not in self._parts:
            shard = self.index["shards"][number]
            name = _parts_file(self.folder, shard["file"]).name
            data = self._contents(name)
            if data is None:
                raise self._damage(name, "is missing")
            if digest(data) != shard["parts"]:
                raise self._damage(name, "is not what was written")
            stored = json.loads(data)
            self._parts[number] = [
                Part(start, end, text)
                for (start, end), text in zip(pairwise(stored["bounds"]), stored["digests"], strict=True)
            ]
        return self._parts[number]

    def _check(self, number: int, part: Part, name: str, data: memoryview) -> None:
        if digest(data[part.start : part.end]) != part.digest:
            where = f"bytes {part.start}–{part.end - 1}"
            raise self._damage(
                self.index["shards"][number]["file"],
                f"is damaged in its {name} ({where}: the digest does not match)",
            )

    def _damage(self, file: str, what: str) -> ShardDamaged:
        return ShardDamaged(f"{self._where(file)} {what}: delete the artifact {self.artifact} and run again")

    def _contents(self, name: str) -> bytes | None:
        """The contents of a small file; None if it does not exist."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def _where(self, name: str = "") -> str:
        return str(self.folder / name)
