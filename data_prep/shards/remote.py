"""Shards in an object store, read by record batch through a bounded local cache.

A training process reads only the batches of its window, so it does not need to download all shards first. A batch is
fetched by its byte range, checked against its digest, and cached in a file named by that digest; if the cache is full,
the least recently used files are removed. The processes of a machine share the cache.

Choose `order.block` no smaller than a record batch (1,024 rows), or most of the fetched data is not used.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from data_prep.sealed import digest, mapped
from data_prep.shards.format import MAGIC, Part
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Rows
from data_prep.sources.files import below, is_remote, local_path, open_file, shown, stamp

CACHE_BYTES = 64 << 30
_AT_ONCE = 16  # concurrent requests; the latency of each is tens of milliseconds
_UNFINISHED, _UNFINISHED_SECONDS = ".fetched-", 3600.0
_KEPT = 0.9  # share of a full cache that is kept when it is tidied


def open_shards(folder: str | Path, cache: Path, limit: int = CACHE_BYTES) -> Shards:
    """Open shards in a local folder or at a URI of `pyarrow.fs`, which are cached in `cache`, up to `limit` bytes."""
    if is_remote(str(folder)):
        return RemoteShards(str(folder), Cache(cache, limit))
    return Shards(local_path(str(folder)))


class Cache:
    """Cache of bytes by digest, in a folder of not much more than `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        self.folder.mkdir(parents=True, exist_ok=True)
        self._fresh = 0  # bytes that this process added since the last tidying
        self._tidy()

    def get(self, digest: str, fetch: Callable[[], bytes]) -> memoryview:
        """The memory-mapped bytes with this digest; on a miss, stores the result of `fetch`. Not verified."""
        path = self.folder / digest
        with suppress(OSError):
            os.utime(path)
            return mapped(path)
        data = fetch()
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=_UNFINISHED, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
        self._fresh += len(data)
        if self._fresh > self.limit * (1 - _KEPT):
            self._tidy()
        return memoryview(data)

    def drop(self, digest: str) -> None:
        (self.folder / digest).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """If the cache is too large, remove the least recently used files. Mapped files stay readable."""
        files = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                if entry.name.startswith(_UNFINISHED) and time.time() - entry.stat().st_mtime < _UNFINISHED_SECONDS:
                    continue  # being written
                files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        if total > self.limit:
            for _, size, path in sorted(files):
                if total <= self.limit * _KEPT:
                    break
                Path(path).unlink(missing_ok=True)
                total -= size
        self._fresh = 0


class RemoteShards(Shards):
    """Like `Shards`, for a folder at `uri`."""

    def __init__(self, uri: str, cache: Cache) -> None:
        self.uri, self.cache = uri, cache
        self._schemas: dict[int, pa.Schema] = {}
        super().__init__(Path(), shown(uri))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteShards, (self.uri, self.cache)

    def read(self, index: ArrayLike) -> Rows:
        """As `Shards.read`; missing batches are fetched concurrently."""
        index = np.asarray(index, np.int64)
        numbers = np.unique(np.searchsorted(self._starts, index, side="right") - 1)
        missing = [n for n in numbers.tolist() if 0 <= n < self.num_batches and n not in self._views]
        if len(missing) > 1:
            for shard in {self._shard_of(number) for number in missing}:
                self._schema_of(shard)
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
                list(pool.map(self._fetched, missing))
        return super().read(index)

    def _record_batch(self, number: int, shard: int, place: int) -> pa.RecordBatch:
        data = self._fetched(number)
        return pa.ipc.read_record_batch(pa.py_buffer(data), self._schema_of(shard))

    def _shard_of(self, number: int) -> int:
        return int(np.searchsorted(self._first, number, side="right")) - 1

    def _fetched(self, number: int) -> memoryview:
        shard = self._shard_of(number)
        place = number - int(self._first[shard])
        return self._part(shard, self._parts_of(shard)[1 + place], self._named(number, place))

    def _schema_of(self, shard: int) -> pa.Schema:
        if shard not in self._schemas:
            head = self._part(shard, self._parts_of(shard)[0], "head")
            self._schemas[shard] = pa.ipc.read_schema(pa.py_buffer(head[len(MAGIC) :]))
        return self._schemas[shard]

    def _part(self, shard: int, part: Part, name: str) -> memoryview:
        """A range of a shard, verified; if the cached copy is damaged, it is fetched again."""
        data = self.cache.get(part.digest, lambda: self._range(shard, part))
        if digest(data) != part.digest:
            self.cache.drop(part.digest)
            data = memoryview(self._range(shard, part))
            self._check(shard, Part(0, len(data), part.digest), name, data)
        return data

    def _range(self, shard: int, part: Part) -> bytes:
        with open_file(self._at(self.index["shards"][shard]["file"])) as stream:
            stream.seek(part.start)
            return stream.read(part.end - part.start)

    def _map(self, number: int) -> memoryview:
        data = self._contents(self.index["shards"][number]["file"])
        if data is None:
            raise self._damage(self.index["shards"][number]["file"], "is missing")
        return memoryview(data)

    def _contents(self, name: str) -> bytes | None:
        if stamp(self._at(name)) is None:
            return None
        with open_file(self._at(name)) as stream:
            return stream.read()

    def _at(self, name: str) -> str:
        return below(self.uri, name)

    def _where(self, name: str = "") -> str:
        return shown(self._at(name) if name else self.uri)
