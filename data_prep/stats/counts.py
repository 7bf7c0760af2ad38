"""Histograms of integers in bounded memory, and sampling of very large data."""

from __future__ import annotations

from collections import Counter

import numpy as np

from data_prep.rng import Draws, key
from data_prep.stats.types import Lengths

BINS = 16  # approximate maximum number of bins of equal width

# Edges of length bins: 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …: four bins per doubling.
EDGES = np.array([*range(4), *((4 + quarter) << octave for octave in range(40) for quarter in range(4))])


class Exact:
    """Exact counts of small integers; memory grows with the largest one."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count integers [n] ≥ 0."""
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
        """The count of each number, by its decimal digits."""
        return {str(value): int(self.counts[value]) for value in np.flatnonzero(self.counts).tolist()}

    def lengths(self, room: int) -> Lengths:
        """A histogram with equal bins up to `room`; full rows are in the last bin."""
        occurring = np.flatnonzero(self.counts)
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
            "least": int(occurring[0]) if len(occurring) else 0,
            "median": int(middle) if len(occurring) else 0,
            "most": self.most,
            "edges": edges,
            "counts": np.diff(at).tolist(),
        }


class Binned:
    """Counts of integers of any size, in logarithmic bins."""

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
        """The histogram; the median is interpolated within its bin."""
        filled = np.flatnonzero(self.bins)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
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
    """`wanted` numbers below `count`, one from each of as many equal intervals, drawn deterministically."""
    if wanted >= count:
        return list(range(count))
    bounds = np.arange(wanted + 1) * count // wanted
    draws = Draws(key(0, "statistics", purpose), 0, np.arange(wanted))
    return (bounds[:-1] + draws.below(np.diff(bounds), 0)).tolist()


def by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sorted by descending count, then alphabetically."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def ratio(part: float, total: float, nothing: float = 0.0) -> float:
    """part / total; `nothing` if the total is 0."""
    return part / total if total else nothing


def share_of(part: int, total: int) -> float:
    """The share read, in [0, 1]; 1 if the total is 0."""
    return round(ratio(part, total, 1.0), 6)
