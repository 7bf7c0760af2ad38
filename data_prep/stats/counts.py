"""Counts of whole numbers in bounded memory, and which of very many things to count."""

from __future__ import annotations

from collections import Counter

import numpy as np

from data_prep.rng import Draws, key
from data_prep.stats.types import Lengths

BINS = 16  # of equal width, at most about so many

# Lengths are told apart as 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …: four bins to a doubling.
EDGES = np.array([*range(4), *((4 + quarter) << octave for octave in range(40) for quarter in range(4))])


class Exact:
    """Counts of small whole numbers, each by itself: memory grows with the largest."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count whole numbers [n] from 0 on."""
        new_counts = np.bincount(values, minlength=len(self.counts))
        new_counts[: len(self.counts)] += self.counts
        self.counts = new_counts

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        return int((self.counts * np.arange(len(self.counts))).sum())

    @property
    def most(self) -> int:
        return int(np.flatnonzero(self.counts)[-1]) if self.count else 0

    def by_value(self) -> dict[str, int]:
        """How often each number came, by its decimal digits."""
        return {str(value): int(self.counts[value]) for value in np.flatnonzero(self.counts).tolist()}

    def lengths(self, room: int) -> Lengths:
        """In equal bins up to `room`, which has its full rows in the last one."""
        some = np.flatnonzero(self.counts)
        width = max(1, -(-room // BINS))
        top = max(room, self.most)
        edges = [*range(max(top, 1) + 1, 0, -width)][::-1]
        edges = edges if edges[0] == 1 else [1, *edges]
        if self.counts[0]:
            edges = [0, *edges]
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        at = bounds[np.minimum(edges, len(self.counts))]
        middle = np.searchsorted(np.cumsum(self.counts), (self.count + 1) // 2)
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(ratio(self.total, self.count), 2),
            "least": int(some[0]) if len(some) else 0,
            "median": int(middle) if len(some) else 0,
            "most": self.most,
            "edges": edges,
            "counts": np.diff(at).tolist(),
        }


class Binned:
    """Counts of whole numbers of any size, in bins that widen with them."""

    def __init__(self) -> None:
        self.bins = np.zeros(len(EDGES) - 1, np.int64)
        self.count = self.total = self.least = self.most = 0

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        minimum = int(values.min())
        self.least = minimum if not self.count else min(self.least, minimum)
        self.most = max(self.most, int(values.max()))
        self.count += len(values)
        self.total += int(values.sum())
        self.bins += np.bincount(np.searchsorted(EDGES, values, side="right") - 1, minlength=len(self.bins))

    def lengths(self) -> Lengths:
        """The median is that of a bin in which values are spread evenly."""
        some = np.flatnonzero(self.bins)
        first, last = (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 0)
        running = np.cumsum(self.bins)
        place = int(np.searchsorted(running, (self.count + 1) // 2))
        low, high = max(int(EDGES[place]), self.least), min(int(EDGES[place + 1]), self.most + 1)
        before = int(running[place]) - int(self.bins[place])
        inside = ((self.count + 1) // 2 - before - 1) * (high - low) // max(int(self.bins[place]), 1)
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(ratio(self.total, self.count), 2),
            "least": self.least,
            "median": low + inside if self.count else 0,
            "most": self.most,
            "edges": EDGES[first : last + 1].tolist(),
            "counts": self.bins[first:last].tolist(),
        }


def evenly(count: int, wanted: int, purpose: str) -> list[int]:
    """`wanted` numbers below `count`, one of each of as many equal stretches: the same ones every time."""
    if wanted >= count:
        return list(range(count))
    bounds = np.arange(wanted + 1) * count // wanted
    draws = Draws(key(0, "statistics", purpose), 0, np.arange(wanted))
    return (bounds[:-1] + draws.below(np.diff(bounds), 0)).tolist()


def by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first; of equals, the first of the alphabet."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def ratio(part: float, total: float, nothing: float = 0.0) -> float:
    """Part of a whole; `nothing` where there is no whole."""
    return part / total if total else nothing


def share_of(part: int, total: int) -> float:
    """How much was read, in [0, 1]: all of nothing."""
    return round(ratio(part, total, 1.0), 6)
