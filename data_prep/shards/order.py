"""The order in which samples are read: a function from a sample's number to its location.

The stream of samples is one sequence numbered from 0. Sample i is a row of a corpus in one of that
corpus's epochs; `Order.locate` computes all three from i, in O(1) memory and time, so a run's
position in its data is a single integer and resuming is free.

    i ──► cycle of 1,000 slots ──► corpus, its own counter ──► epoch, place ──► row
          (exact quotas, keyed)                                (window, then blocks)

Within an epoch, blocks of consecutive rows are put into a keyed order; then the rows of each window
of blocks are permuted. So at any time, reads are limited to a bounded number of blocks (almost
sequential for a disk or an object store), and a window as large as the data is a full shuffle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from data_prep.errors import UserError
from data_prep.rng import absorb, key

SLOTS = 1000  # per cycle: mixing weights are exact to 1 / SLOTS
MIN_BITS = np.uint64(6)  # smaller networks do not reach all permutations equally often
MOST_TABLES = 16  # maximum number of smallest networks that are tabulated
TOGETHER = 1024  # samples that are located at once and kept, as a call takes a millisecond however few they are
ROUNDS = 8  # of the Feistel network; even, so that its halves end up in their original places


def bit_length(x: np.ndarray) -> np.ndarray:
    """Bits that each number of a uint64 array needs; 0 for 0."""
    x = x.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        x |= x >> np.uint64(shift)
    return np.bitwise_count(x).astype(np.uint64)


def _feistel(x: np.ndarray, bits: np.ndarray, keys: list[np.ndarray]) -> np.ndarray:
    """A keyed bijection of the numbers below 2^bits; its halves may differ by one bit. All [N]."""
    low_bits = (bits + np.uint64(1)) >> np.uint64(1)
    masks = [(np.uint64(1) << width) - np.uint64(1) for width in (bits - low_bits, low_bits)]
    high, low = x >> low_bits, x & masks[1]
    for number, round_key in enumerate(keys):
        high, low = low, (high ^ absorb(round_key, low)) & masks[number % 2]
    return (high << low_bits) | low


def permute(i: ArrayLike, n: ArrayLike, key: ArrayLike) -> np.ndarray:
    """The image of i under a keyed permutation of 0 … n-1: int64. All broadcast; 0 ≤ i < n ≤ 2⁶².

    A Feistel network on the smallest power of two ≥ n, repeated until the result is below n (cycle
    walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4). Less than two
    rounds on average; if n is far below the size of the smallest network, that network is tabulated.
    """
    i, n, key = np.broadcast_arrays(np.asarray(i, np.int64), np.asarray(n, np.int64), np.asarray(key, np.uint64))
    if not ((i >= 0) & (i < n) & (n <= 1 << 62)).all():
        raise ValueError("permute needs 0 <= i < n <= 2**62")
    out, limit, key = (array.ravel().astype(np.uint64) for array in (i, n, key))
    bits = np.where(limit == 1, np.uint64(0), np.maximum(bit_length(limit - np.uint64(1)), MIN_BITS))
    keys = [absorb(key, number) for number in range(ROUNDS)]
    small = np.flatnonzero(bits == MIN_BITS)
    networks, which = np.unique(key[small], return_inverse=True)
    if 0 < len(networks) <= MOST_TABLES:
        out[small] = _walked(out[small], limit[small], networks, which)
        walking = np.flatnonzero(bits != MIN_BITS)
    else:
        walking = np.arange(len(out))
    while len(walking):
        out[walking] = _feistel(out[walking], bits[walking], [k[walking] for k in keys])
        walking = walking[out[walking] >= limit[walking]]
    return out.astype(np.int64).reshape(i.shape)


def _walked(x: np.ndarray, limit: np.ndarray, networks: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Cycle walking with tables of the smallest networks; `which`: index of the network of each x."""
    size = 1 << int(MIN_BITS)
    key = np.repeat(networks, size)
    everything = np.tile(np.arange(size, dtype=np.uint64), len(networks))
    tables = _feistel(everything, np.full_like(key, MIN_BITS), [absorb(key, number) for number in range(ROUNDS)])
    start = which.astype(np.uint64) << MIN_BITS
    x = tables[start + x]
    while (over := np.flatnonzero(x >= limit)).size:
        x[over] = tables[start[over] + x[over]]
    return x


@dataclass(frozen=True)
class OrderCorpus:
    """One corpus of a mixture: name (part of its keys), rows, and share of the samples."""

    name: str
    rows: int
    weight: float = 1.0


class Location(NamedTuple):
    """Location of samples: index of the corpus, its epoch from 0, row in it. Each [B] int64."""

    corpus: np.ndarray
    epoch: np.ndarray
    row: np.ndarray


def quotas(weights: Sequence[float], slots: int = SLOTS) -> np.ndarray:
    """A cycle's slots for each corpus: largest remainders, at least one each. [K] int64."""
    weight = np.asarray(weights, float)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise UserError(f"mixing weights must be positive numbers, and {list(weights)} are not")
    if len(weight) > slots:
        raise UserError(f"{len(weight)} corpora cannot share {slots} slots: join some of them")
    quota = np.zeros(len(weight), np.int64)
    while True:  # corpora that would get less than one slot get one; the others share the rest
        free = quota == 0
        share = (slots - quota.sum()) * weight / weight[free].sum()
        if not (small := free & (share < 1)).any():
            break
        quota[small] = 1
    quota[free] = np.floor(share[free] + 1e-9)
    by_remainder = np.argsort(np.where(free, quota - share, np.inf), kind="stable")
    quota[by_remainder[: slots - quota.sum()]] += 1
    return quota


def mixing_weights(rows: Sequence[int], temperature: float) -> list[float]:
    """Shares ∝ rows^temperature. 1 reads all rows equally often, 0 gives all corpora the same share.

    Multilingual models use 0.3 to upsample small languages (α in Conneau et al. 2020, "XLM-R", section 3.1).
    """
    return [float(count) ** temperature for count in rows]


def shares(
    rows: Mapping[str, int],
    weights: Mapping[str, float] | None = None,
    epochs: Mapping[str, float] | None = None,
    temperature: float = 1.0,
) -> dict[str, float]:
    """The weight of each part of a mixture, by its number of rows: given, rows times epochs, or rows^temperature."""
    if weights:
        return {name: weights[name] for name in rows}
    if epochs:
        return {name: count * epochs[name] for name, count in rows.items()}
    return dict(zip(rows, mixing_weights(list(rows.values()), temperature), strict=True))


class Order:
    """The stream of samples over one corpus or a weighted mixture.

    block: rows per block; window: blocks per window. In every cycle of 1,000 samples each corpus gets
    exactly its quota, and in each epoch of a corpus every row occurs exactly once. UserError if a
    corpus is empty or two have the same name.
    """

    def __init__(self, corpora: Sequence[OrderCorpus], seed: int, block: int = 64, window: int = 1024) -> None:
        self.corpora, self.block, self.window = tuple(corpora), block, window
        names = [corpus.name for corpus in self.corpora]
        if not names or len(set(names)) < len(names):
            raise UserError(f"a mixture needs corpora with different names, and these are {names}")
        if empty := [corpus.name for corpus in self.corpora if corpus.rows < 1]:
            raise UserError(f"the corpus {empty[0]} has no rows: give it more text or leave it out")
        if block < 1 or window < 1:
            raise ValueError("block and window must be at least 1")
        self.quotas = quotas([corpus.weight for corpus in self.corpora])
        self._slots_key = key(seed, "order.slots")
        self._keys = [key(seed, "order.rows", corpus.name) for corpus in self.corpora]
        self._kept: dict[int, Location] = {}  # of the last samples, by their number divided by TOGETHER

    def locate(self, samples: ArrayLike) -> Location:
        """Corpus, epoch and row of each sample number; `samples`: [B] int64, each ≥ 0."""
        samples = np.atleast_1d(np.asarray(samples, np.int64))
        if not 0 < len(samples) < TOGETHER:
            return self._located(samples)
        first, last = int(samples.min()) // TOGETHER, int(samples.max()) // TOGETHER
        if last > first + 1:
            return self._located(samples)
        kept = self._kept
        self._kept = {
            number: kept[number] if number in kept else self._located(np.arange(TOGETHER) + number * TOGETHER)
            for number in range(first, last + 1)
        }
        parts = zip(*self._kept.values(), strict=True)
        return Location(*(np.concatenate(part)[samples - first * TOGETHER] for part in parts))

    def _located(self, samples: np.ndarray) -> Location:
        """As `locate`, computed anew."""
        if len(self.corpora) == 1:
            corpus, counter = np.zeros(len(samples), np.int64), samples
        else:
            corpus, counter = self._slot(samples)
        epoch, row = np.empty_like(counter), np.empty_like(counter)
        for number in np.unique(corpus):
            mine, rows = corpus == number, self.corpora[number].rows
            epoch[mine] = counter[mine] // rows
            row[mine] = self._row(counter[mine] % rows, rows, absorb(self._keys[number], epoch[mine]))
        return Location(corpus, epoch, row)

    def _slot(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corpus of each sample, and the number of earlier samples of that corpus."""
        cycles, which = np.unique(samples // SLOTS, return_inverse=True)
        keys = absorb(self._slots_key, cycles)
        owner = np.repeat(np.arange(len(self.corpora)), self.quotas)  # [SLOTS] before the permutation
        table = owner[permute(np.arange(SLOTS), SLOTS, keys[:, None])]  # [cycles, SLOTS]
        rank = np.empty_like(table)
        for number in range(len(self.corpora)):
            mine = table == number
            rank[mine] = (np.cumsum(mine, axis=1) - 1)[mine]
        slot = samples % SLOTS
        corpus = table[which, slot]
        return corpus, samples // SLOTS * self.quotas[corpus] + rank[which, slot]

    def _row(self, place: np.ndarray, rows: int, keys: np.ndarray) -> np.ndarray:
        """The row at each place of an epoch; keys: [B], one per epoch."""
        span = self.window * self.block
        window = place // span
        size = np.minimum(span, rows - window * span)
        place = window * span + permute(place - window * span, size, absorb(absorb(keys, 0), window))
        # The full blocks in keyed order, with the short last one inserted at a keyed place.
        full, short = divmod(rows, self.block)
        blocks_key = absorb(keys, 1)
        if short:
            gap = permute(0, full + 1, absorb(keys, 2)) * self.block
            inside, after = (place >= gap) & (place < gap + short), place >= gap + short
            row = full * self.block + place - gap
            place = place - short * after
        else:
            row, inside = place, np.zeros(len(place), bool)
        at = ~inside
        number = permute(place[at] // self.block, max(full, 1), blocks_key[at])
        row[at] = number * self.block + place[at] % self.block
        return row


def rank_slice(global_batch: int, rank: int, world: int) -> slice:
    """A rank's part of a global batch; all ranks' parts in order are the batch, for any `world`."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}")
    return slice(global_batch * rank // world, global_batch * (rank + 1) // world)
