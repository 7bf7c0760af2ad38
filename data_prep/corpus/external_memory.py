"""External-memory algorithms on keys: finding equal keys and the smallest keys of a stream.

A key is 128 bits, usually a hash: a row (high, low) of a uint64 array [n, 2], compared as the
number high·2⁶⁴ + low. Rows are numbered 0, 1, 2, … over all arrays of a stream; results do not
depend on how the stream is cut into arrays.

Equal keys are found by hash partitioning, as in databases: rows are spread over files by a hash of
their keys, so that equal keys are in one file that can be sorted in memory; a file that is still too
large is partitioned again. The results are partitioned once more, by row number, to return them in
row order. No file stays open between writes, and a stream that fits into memory touches no disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_prep.rng import absorb

ROWS_IN_MEMORY = 1 << 21
_PARTS = 256  # a part's number is a uint8, which numpy sorts by counting
_LEVELS = 3  # enough for 2⁴⁵ distinct keys with 2²¹ rows in memory
_DIGIT = np.uint64(16)  # bits of a key that `smallest` counts at once


def first_of_equals(
    keys: Iterable[np.ndarray], scratch: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[np.ndarray]:
    """Arrays [m, 2] int64 of (row, first row with an equal key), rising by row.

    Rows that are the first of their key are left out. See `earlier_equals`.
    """
    return (links[:, :2] for links in earlier_equals(keys, scratch, rows_in_memory))


def earlier_equals(
    keys: Iterable[np.ndarray], scratch: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[np.ndarray]:
    """Arrays [m, 3] int64 of (row, first row with an equal key, previous one), rising by row.

    Rows that are the first of their key are left out. Uses at most 300 bytes of memory per row of
    `rows_in_memory`, regardless of the number of rows, and 24 (few equal keys) to 72 (all equal)
    bytes of disk per row, in a folder below `scratch` that is removed at the end, even if the
    iterator is closed early or fails.
    """
    Path(scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="equals-", dir=scratch) as folder:
        yield from _earlier_equals(keys, Path(folder), max(1, rows_in_memory))


def _earlier_equals(keys: Iterable[np.ndarray], folder: Path, limit: int) -> Iterator[np.ndarray]:
    spread = _Spread(folder / "keys", 3, limit)
    rows = 0
    for records in _numbered(keys, limit):
        rows += len(records)
        spread.add(records, _key_part(records, 0))
    links_by_row = _Spread(folder / "found", 3, limit)
    for links in _links(spread, 0):
        links_by_row.add(links, _row_part(links, 0, rows))
    yield from _by_row(links_by_row, 0, rows)


def _numbered(keys: Iterable[np.ndarray], limit: int) -> Iterator[np.ndarray]:
    """Records [n, 3] int64, n ≤ limit: the bits of the key's two words, and the row."""
    row = 0
    for array in keys:
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype != np.uint64:
            raise ValueError(f"keys are uint64 [n, 2], not {array.dtype} {list(array.shape)}")
        for start in range(0, len(array), limit):
            part = array[start : start + limit]
            records = np.empty((len(part), 3), np.int64)
            records[:, :2] = part.view(np.int64)
            records[:, 2] = np.arange(row, row + len(part))
            row += len(part)
            yield records


class _Spread:
    """Records [n, columns] int64 partitioned into files; each file preserves insertion order.

    Records are buffered in memory until there are more than `limit`; a smaller set stays in memory
    as a single part.
    """

    def __init__(self, folder: Path, columns: int, limit: int) -> None:
        self.folder, self.columns, self.limit = folder, columns, limit
        self._sizes = np.zeros(_PARTS, np.int64)
        self._rows = 0  # buffered in memory
        self._records = np.empty((limit, columns), np.int64)
        self._part = np.empty(limit, np.uint8)

    def add(self, records: np.ndarray, part: np.ndarray) -> None:
        """Add n ≤ limit records; `part` [n] uint8 is the part of each."""
        if self._rows + len(records) > self.limit:
            self._write()
        end = self._rows + len(records)
        self._records[self._rows : end], self._part[self._rows : end] = records, part
        self._rows = end

    def _write(self) -> None:
        part, self._rows = self._part[: self._rows], 0
        order, sizes = np.argsort(part, kind="stable"), np.bincount(part, minlength=_PARTS)
        ends = np.cumsum(sizes)
        self.folder.mkdir(exist_ok=True)
        for number in np.flatnonzero(sizes):
            with (self.folder / str(number)).open("ab") as file:
                self._records[order[ends[number] - sizes[number] : ends[number]]].tofile(file)
        self._sizes += sizes

    def again(self, number: int) -> _Spread:
        """An empty spread for partitioning a part of this one that is too large."""
        return _Spread(self.folder.with_name(f"{self.folder.name}-{number}"), self.columns, self.limit)

    def parts(self) -> Iterator[tuple[int, int, Iterator[np.ndarray]]]:
        """(part number, or -1 for everything; its number of rows; its records in arrays of ≤ limit rows).

        Nothing may be added afterwards, and each part can be read only once.
        """
        if not self._sizes.any():
            if self._rows:
                yield -1, self._rows, iter([self._records[: self._rows]])
            return
        self._write()
        del self._records, self._part
        for number in np.flatnonzero(self._sizes):
            yield int(number), int(self._sizes[number]), self._read(self.folder / str(number))

    def _read(self, path: Path) -> Iterator[np.ndarray]:
        with path.open("rb") as file:
            while len(values := np.fromfile(file, np.int64, self.limit * self.columns)):
                yield values.reshape(-1, self.columns)
        path.unlink()


def _key_part(records: np.ndarray, level: int) -> np.ndarray:
    """Part numbers of keys: equal for equal keys, and independent between levels."""
    return (absorb(absorb(level, records[:, 0]), records[:, 1]) >> np.uint64(56)).astype(np.uint8)


def _row_part(links: np.ndarray, low: int, high: int) -> np.ndarray:
    """Part numbers that cut the rows low … high-1 into ranges."""
    return ((links[:, 0] - low) * _PARTS // (high - low)).astype(np.uint8)


def _links(spread: _Spread, level: int) -> Iterator[np.ndarray]:
    """`earlier_equals` of records partitioned by the hash of `level`, in any order."""
    for number, rows, records in spread.parts():
        if rows <= spread.limit or level + 1 == _LEVELS:
            yield from _links_within(records)
        else:
            again = spread.again(number)
            for array in records:
                again.add(array, _key_part(array, level + 1))
            yield from _links(again, level + 1)


def _links_within(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """`earlier_equals` of one part's records, in any order.

    A part of more than one array could not be made smaller by partitioning: it has few keys, each in
    many rows. It is processed array by array, remembering the first and last row of every key seen.
    """
    seen = np.empty((0, 4), np.int64)  # key, first row, last row
    for records in arrays:
        joined = np.concatenate([seen, records[:, [0, 1, 2, 2]]])
        order = _order(joined)
        joined = joined[order]
        begins = np.ones(len(joined), bool)
        begins[1:] = (joined[1:, :2] != joined[:-1, :2]).any(1)
        first = joined[begins, 2][np.cumsum(begins) - 1]
        repeats = np.flatnonzero(~begins)
        yield np.column_stack([joined[repeats, 3], first[repeats], joined[repeats - 1, 3]])
        ends = np.append(begins[1:], True)
        seen = np.column_stack([joined[begins, :3], joined[ends, 3]])


def _order(records: np.ndarray) -> np.ndarray:
    """Indices that group equal keys, preserving the order of each key's records."""
    high = np.ascontiguousarray(records[:, 0])
    order = np.argsort(high)  # much faster than a stable sort of whole keys, and usually enough
    high = high[order]
    tied = np.zeros(len(high), bool)
    tied[1:] = high[1:] == high[:-1]
    tied[:-1] |= tied[1:]
    places = np.flatnonzero(tied)
    members = order[places]
    order[places] = members[np.lexsort((members, records[members, 1], records[members, 0]))]
    return order


def _by_row(spread: _Spread, low: int, high: int) -> Iterator[np.ndarray]:
    """The links of rows low … high-1, which are partitioned by row range, in ascending order."""
    for number, rows, links in spread.parts():
        if number < 0 or rows <= spread.limit:
            for array in links:
                yield array[np.argsort(array[:, 0])]
        else:
            start, stop = low - (-(high - low) * number // _PARTS), low - (-(high - low) * (number + 1) // _PARTS)
            again = spread.again(number)
            for array in links:
                again.add(array, _row_part(array, start, stop))
            yield from _by_row(again, start, stop)


def smallest(keys: Callable[[], Iterable[np.ndarray]], count: int, rows_in_memory: int = ROWS_IN_MEMORY) -> int:
    """The boundary of the `count` smallest keys: the smallest key that is not one of them.

    If keys are distinct, exactly `count` rows have keys below it (see `below`); several rows with
    the boundary key are all excluded. It is 2¹²⁸, above every key, if there are at most `count`
    rows. `keys` is called twice for uniformly distributed hashes and at most nine times otherwise.
    """
    prefix, bits, rank = 0, 0, max(0, count)  # the boundary is the key of this rank among those with the prefix
    while bits < 128:
        sizes = np.zeros(1 << int(_DIGIT), np.int64)
        for array in _beginning_with(keys(), prefix, bits):
            digit = array[:, bits // 64] >> np.uint64(48 - bits % 64) & np.uint64(0xFFFF)
            sizes += np.bincount(digit.astype(np.int64), minlength=len(sizes))
        ends = np.cumsum(sizes)
        if rank >= ends[-1]:
            return 1 << 128
        digit = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[digit] - sizes[digit])
        prefix, bits = prefix << 16 | digit, bits + 16
        if sizes[digit] <= rows_in_memory:
            candidates = np.concatenate(list(_beginning_with(keys(), prefix, bits)))
            high, low = candidates[np.lexsort((candidates[:, 1], candidates[:, 0]))[rank]].tolist()
            return high << 64 | low
    return prefix


def _beginning_with(keys: Iterable[np.ndarray], prefix: int, bits: int) -> Iterator[np.ndarray]:
    """The keys whose first `bits` bits are `prefix`."""
    for array in keys:
        chosen = np.ones(len(array), bool)
        if bits > 64:
            chosen &= array[:, 0] == np.uint64(prefix >> (bits - 64))
            chosen &= array[:, 1] >> np.uint64(128 - bits) == np.uint64(prefix & ((1 << (bits - 64)) - 1))
        elif bits:
            chosen &= array[:, 0] >> np.uint64(64 - bits) == np.uint64(prefix)
        yield array[chosen] if bits else array


def below(keys: np.ndarray, boundary: int) -> np.ndarray:
    """[n] bool: which keys [n, 2] are less than a boundary in [0, 2¹²⁸]."""
    if boundary >> 128:
        return np.ones(len(keys), bool)
    high, low = np.uint64(boundary >> 64), np.uint64(boundary & (1 << 64) - 1)
    return (keys[:, 0] < high) | (keys[:, 0] == high) & (keys[:, 1] < low)
