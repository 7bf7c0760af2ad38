"""Which examples are learned from and which are scored, and their order in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_prep.rng import key
from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.order import permute
from data_prep.shards.rows import Rows, ragged
from training.config import OrderConfig
from training.data import Corpus, MemoryTable, Samples, Stream

E = TypeVar("E")


def stream_of(table: MemoryTable, batch: int, seed: int, length_window: int | None) -> Samples:
    """The rows of a table, each once an epoch, in keyed order; rows of similar length are grouped within a window."""
    stream = Stream([Corpus("labelled", table)], seed, OrderConfig(block=1, window=1 << 30))
    if length_window is None:
        return stream
    lengths = ragged(table.columns, "input").lengths
    return _Bucketed(table, LengthBuckets(stream.order, lambda _, rows: lengths[rows], batch, length_window, seed))


@dataclass(frozen=True)
class _Bucketed:
    table: MemoryTable
    order: LengthBuckets

    def read(self, samples: np.ndarray) -> Rows:
        return self.table.read(self.order.locate(samples).row)


def drawn(available: int, labels: int, seed: int, number: int) -> np.ndarray:
    """Training examples of draw `number`: the first of a keyed shuffle, larger ones contain smaller ones."""
    return permute(np.arange(min(labels, available)), available, key(seed, f"labelled draw {number}"))


def some(examples: Sequence[E], limit: int, seed: int) -> list[E]:
    """A fixed sample of held-out examples."""
    if len(examples) <= limit:
        return list(examples)
    return [examples[i] for i in permute(np.arange(limit), len(examples), key(seed, "held-out examples"))]
