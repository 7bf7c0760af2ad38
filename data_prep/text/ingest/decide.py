"""Decides, from hashes of all rows of a corpus, which are copies, which sentences repeat, and which are held out.

No texts are held in memory: the arrays over N rows take a few bytes per row, the rest uses external memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.compute.workers import WorkerPool
from data_prep.corpus import external_memory
from data_prep.corpus.documents import SPLITS, SplitConfig, shares, split_key
from data_prep.corpus.draft import REJECTED, Declared
from data_prep.rng import absorb
from data_prep.text import near_duplicates
from data_prep.text.clean import CleanConfig
from data_prep.text.rules import spans

_ROWS_IN_MEMORY = 1 << 16
_OPEN_NAMES = 256


class Table:
    """The kept rows of all units, memory-mapped; rows are numbered across all units."""

    def __init__(self, folders: Sequence[Path], counts: Sequence[int]) -> None:
        self.folders = list(folders)
        self.starts = np.cumsum([0, *counts])
        self._names: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def span(self, unit: int) -> slice:
        """Range of a unit's row numbers."""
        return slice(int(self.starts[unit]), int(self.starts[unit + 1]))

    def keys(self, column: int, without: np.ndarray) -> Iterator[np.ndarray]:
        """128-bit keys [n, 2] of each unit: column 0 of texts, 1 of names. Rows in `without` get unique keys."""
        for unit, folder in enumerate(self.folders):
            unit_keys = np.fromfile(folder / "keys.u64", ">u8").reshape(-1, 2, 2)[:, column].astype(np.uint64)
            out = np.flatnonzero(without[self.span(unit)])
            unit_keys[out] = np.stack([absorb(1, out + self.starts[unit]), absorb(2, out + self.starts[unit])], 1)
            yield unit_keys

    def signatures(self, width: int, without: np.ndarray, path: Path) -> np.ndarray:
        """MinHash signatures [N, width] in a file at `path`. Rows in `without` resemble no other row."""
        with path.open("wb") as file:
            for unit, folder in enumerate(self.folders):
                unit_signatures = np.fromfile(folder / "signatures.u32", np.uint32).reshape(-1, width)
                out = np.flatnonzero(without[self.span(unit)])
                noise = absorb(absorb(3, out + self.starts[unit])[:, None], np.arange(width))
                unit_signatures[out] = (noise >> np.uint64(32)).astype(np.uint32)
                file.write(unit_signatures.tobytes())
        return np.memmap(path, np.uint32, "r").reshape(-1, width)

    def names(self, rows: np.ndarray) -> list[tuple[str, str]]:
        """(name, source) of rows, in the given order."""
        unit = np.searchsorted(self.starts, rows, side="right") - 1
        pairs = []
        for number, row in zip(unit.tolist(), (rows - self.starts[unit]).tolist(), strict=True):
            if number not in self._names:
                if len(self._names) >= _OPEN_NAMES:
                    self._names.clear()
                self._names[number] = _names(self.folders[number])
            names = self._names[number]
            pairs.append((names["name"][row].as_py(), names["source"][row].as_py()))
        return pairs


def _names(folder: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(folder / "names.arrow"))).read_all()


class TextDecision(NamedTuple):
    """The split or rejection of each row, and the row that is the reason (-1: none)."""

    table: Table
    split_of: np.ndarray  # [N] uint8
    copy_of: np.ndarray  # [N] int64
    near: np.ndarray  # [N] bool: a near copy
    name_of: np.ndarray  # [N] int64: the row that already has its name
    repeats: spans.Repeats | None = None  # sentences to remove, and rows to reject for that

    @property
    def num_tolerated(self) -> int:
        return int((self.split_of == REJECTED).sum() - (self.name_of >= 0).sum())

    def span(self, unit: int) -> slice:
        return self.table.span(unit)

    def examples(self, limit: int) -> list[str]:
        rows = np.flatnonzero(self.name_of >= 0)[:limit]
        pairs = zip(self.table.names(rows), self.table.names(self.name_of[rows]), strict=True)
        return [f"{source}: {taken_by(name, other)}" for (name, source), (_, other) in pairs]

    def reasons(self, rows: slice = slice(None)) -> Counter[str]:
        """Number of rejected rows by reason, among `rows`."""
        near = self.near[rows]
        counts = {
            "duplicate": ((self.copy_of[rows] >= 0) & ~near).sum(),
            "near duplicate": near.sum(),
            "name taken": (self.name_of[rows] >= 0).sum(),
            spans.TOO_LITTLE: 0 if self.repeats is None else self.repeats.too_little[rows].sum(),
        }
        return Counter({reason: int(count) for reason, count in counts.items() if count})

    def marks(self, unit: int) -> spans.Marks | None:
        """The sentences of a unit to remove."""
        return None if self.repeats is None else self.repeats.marks[unit]


def taken_by(name: str, source: str) -> str:
    return f"the name {name!r} is taken by a document of {source}"


def decide(table: Table, config: CleanConfig, scratch: Path) -> TextDecision:
    """Find rows that are copies of earlier ones or have the name of an earlier one.

    If the original of a copy is rejected because its name is taken, copies are searched again without that row.
    """
    count = len(table)
    decided = TextDecision(
        table,
        np.zeros(count, np.uint8),
        _disk_array(scratch / "copy_of", count, np.int64, -1),
        np.zeros(count, bool),
        _disk_array(scratch / "name_of", count, np.int64, -1),
    )
    is_name_taken = np.zeros(count, bool)
    while True:
        decided.copy_of[:] = -1
        if config.drop_duplicates:
            for links in external_memory.first_of_equals(table.keys(0, is_name_taken), scratch, _ROWS_IN_MEMORY):
                decided.copy_of[links[:, 0]] = links[:, 1]
        again = False
        for links in external_memory.first_of_equals(
            table.keys(1, is_name_taken | (decided.copy_of >= 0)), scratch, _ROWS_IN_MEMORY
        ):
            decided.name_of[links[:, 0]] = links[:, 1]
            is_name_taken[links[:, 0]] = True
            again = config.drop_duplicates
        if not again or not is_name_taken[decided.copy_of[decided.copy_of >= 0]].any():
            break
    if config.near_duplicates and count:
        gone, near = is_name_taken | (decided.copy_of >= 0), config.near_duplicates
        signatures = table.signatures(near.permutations, gone, scratch / "signatures")
        for links in near_duplicates.near_duplicates(signatures, near, scratch, _ROWS_IN_MEMORY):
            decided.copy_of[links[:, 0]] = links[:, 1]
            decided.near[links[:, 0]] = True
    decided.split_of[is_name_taken | (decided.copy_of >= 0)] = REJECTED
    c4 = config.rules.c4
    if c4 is not None and c4.span_sentences is not None:
        gone, minimum = decided.split_of == REJECTED, spans.MinimumLeft(c4.min_sentences, config.min_characters)
        repeats = spans.find_repeats(table.folders, gone, c4.span_sentences, minimum, scratch, _ROWS_IN_MEMORY)
        decided.split_of[repeats.too_little] = REJECTED
        decided = decided._replace(repeats=repeats)
    return decided


def _disk_array(path: Path, count: int, dtype: Any, fill: int) -> np.ndarray:
    """A memory-mapped array in a file, so that the system can page it out."""
    if not count:
        return np.empty(0, dtype)
    array = np.memmap(path, dtype, "w+", shape=(count,))
    array[:] = fill
    return array


def hold_out(
    table: Table,
    decided: TextDecision,
    declared: Declared,
    split: SplitConfig,
    seed: int,
    scratch: Path,
    pool: WorkerPool,
) -> None:
    """Assign a split to each row that is not rejected: the one that its source declares, or by shares.

    The `round(fraction · n)` names with the smallest keyed hashes are the validation split, the next ones the test
    split; a fraction above 0 gets at least one of three or more names, and training keeps at least one.
    """
    is_divided, split = declared.assign(decided.split_of), declared.left(split)
    if split.validation == split.test == 0:
        return
    jobs = [(folder, seed, scratch / f"split-{number}") for number, folder in enumerate(table.folders)]
    for _ in pool.in_order(_split_keys, jobs):
        pass

    def keys() -> Iterator[np.ndarray]:
        for number, (_, _, path) in enumerate(jobs):
            yield np.fromfile(path, ">u8").reshape(-1, 2).astype(np.uint64)[is_divided[table.span(number)]]

    validation, test = shares(int(is_divided.sum()), split)
    bounds = [external_memory.smallest(keys, count, _ROWS_IN_MEMORY) for count in (validation, validation + test)]
    for number, hashes in enumerate(keys()):
        span = table.span(number)
        split_of = np.where(external_memory.below(hashes, bounds[1]), SPLITS.index("test"), SPLITS.index("train"))
        split_of[external_memory.below(hashes, bounds[0])] = SPLITS.index("validation")
        decided.split_of[span][is_divided[span]] = split_of


def _split_keys(job: tuple[Path, int, Path]) -> None:
    folder, seed, out = job
    with out.open("wb") as file:
        for name in _names(folder)["name"]:
            file.write(split_key(seed, name.as_py()))
