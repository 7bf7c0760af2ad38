"""Decides, from the keys of all rows of a corpus of arrays, which rows are copies and which are held out.

Uses one byte of memory per row and 16 bytes per copy; everything else is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.corpus import external_memory
from data_prep.corpus.documents import SPLITS, SplitConfig, shares
from data_prep.corpus.draft import REJECTED, Declared
from data_prep.rng import absorb, key

ROWS_IN_MEMORY = 1 << 16


@dataclass(frozen=True)
class ArrayDecision:
    """The split or rejection of every row; rows are numbered across all units."""

    starts: np.ndarray  # [U + 1] int64: the first row of each unit
    split_of: np.ndarray  # [N] uint8
    copies: np.ndarray  # [D, 2] int64: a row, and the first row that it duplicates

    @property
    def num_tolerated(self) -> int:
        return len(self.copies)

    def span(self, unit: int) -> slice:
        return slice(int(self.starts[unit]), int(self.starts[unit + 1]))

    def reasons(self, rows: slice = slice(None)) -> Counter[str]:
        num_copies = int((self.split_of[rows] == REJECTED).sum())
        return Counter({"duplicate": num_copies} if num_copies else {})

    def marks(self, unit: int) -> None:
        """None: nothing else is decided about a unit."""

    def examples(self, limit: int) -> list[str]:
        return []


def decide(
    folders: Sequence[Path],
    declared: Declared,
    split: SplitConfig,
    seed: int,
    scratch: Path,
    grouped: bool = False,
    ordered: bool = False,
) -> ArrayDecision:
    """Find copies and assign splits for the rows of all units, those that sources declare and shares of the others.

    grouped: split shares count groups instead of rows, and all rows of a group are in one split.
    ordered: groups are ranks; the rows with the lowest ones become test rows, those after them validation.
    """
    starts = np.cumsum([0, *declared.counts])
    split_of = np.full(int(starts[-1]), SPLITS.index("train"), np.uint8)
    keys = (block[:, :2] for folder in folders for block in _keys(folder))
    links = [np.empty((0, 2), np.int64), *external_memory.first_of_equals(keys, scratch, ROWS_IN_MEMORY)]
    decided = ArrayDecision(starts, split_of, np.concatenate(links))
    split_of[decided.copies[:, 0]] = REJECTED
    is_divided, split = declared.assign(split_of), declared.left(split)
    lanes = np.array([key(seed, "split", "high"), key(seed, "split", "low")], np.uint64)

    def ranks() -> Iterator[np.ndarray]:
        start = 0
        for unit_keys in (unit_keys for folder in folders for unit_keys in _keys(folder)):
            divided_keys = unit_keys[is_divided[start : start + len(unit_keys)], 2:]
            yield divided_keys if ordered else absorb(lanes, divided_keys)
            start += len(unit_keys)

    if grouped:
        split_of[is_divided] = _by_group(ranks, split)
        return decided
    validation, test = shares(int(is_divided.sum()), split)
    first, then = ("test", "validation") if ordered else ("validation", "test")
    counts_below = (test if ordered else validation, validation + test)
    bounds = [external_memory.smallest(ranks, count, ROWS_IN_MEMORY) for count in counts_below]
    codes = [np.empty(0, np.uint8)]
    for hashes in ranks():
        codes_of_unit = np.full(len(hashes), SPLITS.index("train"), np.uint8)
        codes_of_unit[external_memory.below(hashes, bounds[1])] = SPLITS.index(then)
        codes_of_unit[external_memory.below(hashes, bounds[0])] = SPLITS.index(first)
        codes.append(codes_of_unit)
    split_of[is_divided] = np.concatenate(codes)
    return decided


def _by_group(ranks: Callable[[], Iterator[np.ndarray]], split: SplitConfig) -> np.ndarray:
    """[rows to divide] uint8: the split of each row's group. Holds the ranks of all groups in memory."""
    groups = [np.empty((0, 2), np.uint64)]
    for part in ranks():
        groups = [np.unique(np.concatenate([*groups, part]), axis=0)]  # in the order of the ranks
    validation, test = shares(len(groups[0]), split)
    codes = np.full(len(groups[0]), SPLITS.index("train"), np.uint8)
    codes[:validation] = SPLITS.index("validation")
    codes[validation : validation + test] = SPLITS.index("test")
    number = {tuple(group): place for place, group in enumerate(groups[0].tolist())}
    places = [number[tuple(rank)] for part in ranks() for rank in part.tolist()]
    return codes[np.array(places, np.int64)]


def _keys(folder: Path) -> Iterator[np.ndarray]:
    """Keys of a unit's rows, in arrays of [n, 4] uint64."""
    with (folder / "keys.u64").open("rb") as file:
        while len(block := np.fromfile(file, np.uint64, 4 * ROWS_IN_MEMORY)):
            yield block.reshape(-1, 4)
