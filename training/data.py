"""The stream of samples: order, shards and corruption in one call.

`read(samples)` is a pure function of the sample numbers, so any worker can be handed any slice of any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.order import Order, OrderCorpus, rank_slice
from data_prep.shards.rows import Rows, concat, ragged, take
from data_prep.shards.streams import CORRUPT
from training.config import OrderConfig
from training.distributed import Worker
from training.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Corruption = Callable[[Rows, Draws], Rows]


class Table(Protocol):
    """Rows by number: shards on disk, or a small data set in memory."""

    @property
    def rows(self) -> int: ...

    def read(self, index: np.ndarray) -> Rows: ...

    def lengths(self, index: ArrayLike) -> np.ndarray:
        """Number of items of each row, [R]."""
        ...


@dataclass(frozen=True)
class MemoryTable:
    """A small data set held in memory."""

    columns: Rows
    rows: int

    def read(self, index: np.ndarray) -> Rows:
        return take(self.columns, index)

    def lengths(self, index: ArrayLike) -> np.ndarray:
        return ragged(self.columns, "input").lengths[np.asarray(index, np.int64)]


@dataclass(frozen=True)
class Corpus:
    """One named table of the mixture and its weight."""

    name: str
    table: Table
    weight: float = 1.0


class Samples(Protocol):
    """Rows by sample number."""

    def read(self, samples: np.ndarray) -> Rows: ...


class Stream:
    """Samples 0, 1, 2, … of a mixture of corpora, corrupted as they are read.

    `purpose` names the stream of random draws: held-out data is corrupted by its own, the same at every evaluation.
    `sources`, if given, are numbers of the corpora; every row then has its corpus's number in the column `source`.
    `order.length_window` regroups the rows of that many steps of `global_batch` samples by length, for which every
    worker reads the lengths of all of them.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        seed: int,
        order: OrderConfig,
        corruption: Corruption | None = None,
        purpose: str = CORRUPT,
        sources: Sequence[int] | None = None,
        global_batch: int | None = None,
    ) -> None:
        self.corpora = list(corpora)
        self.sources = sources
        self.corruption = corruption
        self.keys = [key(seed, purpose, corpus.name) for corpus in corpora]
        self.order = Order(
            [OrderCorpus(c.name, c.table.rows, c.weight) for c in corpora],
            seed,
            block=order.block,
            window=order.window,
        )
        self.places: Order | LengthBuckets = self.order
        if order.length_window is not None:
            if global_batch is None:
                raise ValueError("order.length_window regroups steps, so it needs global_batch")
            self.places = LengthBuckets(self.order, self._lengths, global_batch, order.length_window, seed)

    def _lengths(self, corpus: int, rows: np.ndarray) -> np.ndarray:
        return self.corpora[corpus].table.lengths(rows)

    def read(self, samples: np.ndarray) -> Rows:
        """Rows of the samples, in their order."""
        corpus, epoch, row = self.places.locate(samples)
        parts, places = [], []
        for index in np.unique(corpus):
            positions = np.flatnonzero(corpus == index)
            rows = self.corpora[index].table.read(row[positions])
            if self.corruption is not None:
                draws = Draws(self.keys[index], epoch[positions], row[positions])
                rows = self.corruption(rows, draws)
            if self.sources is not None:
                rows = {**rows, "source": np.full(len(positions), self.sources[index], np.uint16)}
            parts.append(rows)
            places.append(positions)
        if len(parts) == 1:
            return parts[0]
        return take(concat(parts), np.argsort(np.concatenate(places)))


class ConsecutiveStreams:
    """One stream until sample `begins`, then another, whose samples count from there."""

    def __init__(self, first: Samples, second: Samples, begins: int) -> None:
        self.first, self.second, self.begins = first, second, begins

    def read(self, samples: np.ndarray) -> Rows:
        """Rows of the samples, which all belong to one of the two streams. Raises ValueError where they do not."""
        if len(samples) and samples[0] < self.begins <= samples[-1]:
            raise ValueError(f"samples {samples[0]} to {samples[-1]} span the change at {self.begins}")
        if len(samples) and samples[0] >= self.begins:
            return self.second.read(samples - self.begins)
        return self.first.read(samples)


def micro_batches(global_batch: int, world: int, micro_batch: int | None) -> int:
    """Number of equal parts a step is divided into, so that no worker takes more than `micro_batch` rows at once."""
    if micro_batch is None:
        return 1
    return -(-global_batch // (micro_batch * world))


def worker_samples(step: int, global_batch: int, parts: int, rank: int, world: int) -> list[np.ndarray]:
    """Sample numbers of this worker in a step, one array per micro-batch.

    The step takes samples [step·G, (step+1)·G); part i takes its i-th share and each rank a slice of that, so the
    global batch is the same for any number of workers and of parts.
    """
    numbers = np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.int64)
    edges = [global_batch * i // parts for i in range(parts + 1)]
    shares = [numbers[a:b] for a, b in pairwise(edges)]
    return [share[rank_slice(len(share), rank, world)] for share in shares]


def split_problem(global_batch: int, parts: int, world: int, group_rows: int) -> str:
    """Whether a worker would be without a row, or rows that are learned from together would be parted: a sentence."""
    what = f"{global_batch} rows in {parts} micro-batch{'es' * (parts > 1)} on {world} worker{'s' * (world > 1)}"
    if global_batch // parts < world:
        return f"{what} leave some workers without a row; raise it or lower placement.workers"
    shares = (len(share) for rank in range(world) for share in worker_samples(0, global_batch, parts, rank, world))
    if any(share % group_rows for share in shares):
        return (
            f"{what} cut groups of {group_rows} rows, which are learned from together; make the rows of a worker's "
            f"micro-batch a multiple of {group_rows}"
        )
    return ""


@dataclass(frozen=True)
class BatchSplit:
    """How the samples of every step are divided into `num_parts` micro-batches, and each of those among the workers."""

    global_batch: int
    num_parts: int
    worker: Worker

    def check(self, group_rows: int) -> None:
        """UserError where `split_problem` finds one."""
        if problem := split_problem(self.global_batch, self.num_parts, self.worker.world, group_rows):
            raise UserError(f"train.global_batch: {problem}.")

    def samples(self, step: int) -> list[np.ndarray]:
        """Sample numbers of this worker in a step, one array per micro-batch."""
        return self._samples_of(step, self.worker.rank)

    def counts(self, step: int, end: int) -> list[list[int]]:
        """How many samples before `end` each worker has in each micro-batch of a step: [part][rank]."""
        by_rank = [self._samples_of(step, rank) for rank in range(self.worker.world)]
        return [[int((samples[part] < end).sum()) for samples in by_rank] for part in range(self.num_parts)]

    def gathered(self, features: list[dict[str, Tensor]], counts: list[list[int]]) -> dict[str, Tensor]:
        """Tensors of this worker's micro-batches made those of the whole batch, in the order of its samples."""
        names = sorted(features[0])
        tensors: dict[str, list[Tensor]] = {name: [] for name in names}
        for of_part, by_rank in zip(features, counts, strict=True):
            for name in names:
                tensors[name] += self.worker.rows(of_part[name], by_rank)
        return {name: torch.cat(parts) for name, parts in tensors.items()}

    def _samples_of(self, step: int, rank: int) -> list[np.ndarray]:
        return worker_samples(step, self.global_batch, self.num_parts, rank, self.worker.world)


def ahead(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Run jobs one ahead of the reader, on a thread of their own."""
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        waiting = None
        for job in jobs:
            running = pool.submit(job)
            if waiting is not None:
                yield waiting.result()
            waiting = running
        if waiting is not None:
            yield waiting.result()
