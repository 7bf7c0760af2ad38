"""Reads shards without copying and checks their digests; `data_prep.shards.format` describes the files."""

from __future__ import annotations

import json
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from data_prep.errors import UserError
from data_prep.sealed import digest, mapped, unsealed
from data_prep.shards.format import FORMAT, INDEX, Part, from_arrow, parts_file
from data_prep.shards.rows import Ragged, Rows, concat, network_input, take

OPEN_BATCHES = 4096  # views that a reader caches; their data stays in the page cache


class ShardDamaged(UserError):  # noqa: N818 - says what happened, as UserError's kin do
    """A stored shard is damaged."""


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
            name = parts_file(self.folder, shard["file"]).name
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
