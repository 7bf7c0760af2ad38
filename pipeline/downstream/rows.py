"""Helpers of jobs on arrays: reading a split, batches, projection to a plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from data_prep.shards.reader import Shards
from data_prep.shards.rows import Rows
from pipeline.artifact import Artifact

BATCH = 1024


def rows_of(shards: Artifact, split: str) -> Rows:
    """All rows of a split: `input`, `label` and `row`."""
    table = Shards(shards.path / split)
    return table.read(np.arange(table.rows))


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices of `size` that cover [0, count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def flat(rows: np.ndarray) -> np.ndarray:
    """Rows [R, …] as [R, D]."""
    return rows.reshape(len(rows), -1)


def plane(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A projection of rows [R, D] to [R, 2], the two principal components of `rows` (for D = 1: the value, and 0)."""
    from sklearn.decomposition import PCA

    if rows.shape[1] == 1:
        return lambda values: np.concatenate([values, np.zeros_like(values)], 1)
    return PCA(2).fit(rows).transform


def are_classes(*labels: np.ndarray) -> bool:
    """Whether all rows have labels, of more than one class."""
    return all((classes >= 0).all() for classes in labels) and len(np.unique(labels[0])) > 1
