"""Batches of rows of similar length, to reduce padding.

    window of batches ─► its rows, by the order ─► sorted by length ─► cut into batches ─► batches in keyed order

The rows of a window are determined by the order, so every row still occurs exactly once per epoch; only the grouping
into batches changes. The contents of a batch depend only on its number, not on workers or the start of a run.

A window of a single corpus lies within one epoch, in which every row is equally likely at every place; a batch that
spans two epochs is left as in the order. In a mixture, whose corpora end at different times, all windows have the same
number of batches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from data_prep.rng import absorb, key
from data_prep.shards.order import Location, Order, permute


class LengthBuckets:
    """An order whose rows are regrouped within windows of batches.

    lengths: (index of a corpus, rows [n]) → lengths [n]. batch: samples per step; step b has the samples b·batch …
    (b + 1)·batch - 1. window: number of batches sorted together, in O(window · batch) time; the last window is cached.
    """

    def __init__(
        self, order: Order, lengths: Callable[[int, np.ndarray], np.ndarray], batch: int, window: int, seed: int
    ) -> None:
        self.order, self.lengths, self.batch, self.window = order, lengths, batch, window
        if batch < 1 or window < 1:
            raise ValueError("batch and window must be at least 1")
        self._key = key(seed, "order.buckets", " ".join(corpus.name for corpus in order.corpora))
        self._last = -1, order.locate(np.empty(0, np.int64))  # first batch of a window, and where its samples are

    def locate(self, samples: ArrayLike) -> Location:
        """Corpus, epoch and row of each sample number; `samples`: [B] int64, each ≥ 0. Rows of a batch are sorted."""
        samples = np.atleast_1d(np.asarray(samples, np.int64))
        batch = samples // self.batch
        begins, ends = self._bounds(batch)
        first = begins + np.maximum(batch - begins, 0) // self.window * self.window
        stop = np.minimum(first + self.window, ends)
        alone = (batch < begins) | (batch >= ends)  # across epochs
        location = self.order.locate(samples)
        corpus, epoch, row = location.corpus.copy(), location.epoch.copy(), location.row.copy()
        for start in np.unique(first[~alone]):
            mine = ~alone & (first == start)
            window = self._window(int(start), int(stop[mine].min()) - int(start))
            place = samples[mine] - start * self.batch
            corpus[mine], epoch[mine], row[mine] = window.corpus[place], window.epoch[place], window.row[place]
        return Location(corpus, epoch, row)

    def _bounds(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The range [first, end) of the batches that windows around each batch may contain. Both [B]."""
        rows, *others = (corpus.rows for corpus in self.order.corpora)
        if others:
            return np.zeros_like(batch), np.full_like(batch, np.iinfo(np.int64).max)
        epoch = batch * self.batch // rows
        return -(-epoch * rows // self.batch), (epoch + 1) * rows // self.batch

    def _window(self, start: int, count: int) -> Location:
        """The locations of the samples of `count` batches from `start` on, [count · batch] each."""
        last, window = self._last
        if last != start:
            window = self.order.locate(np.arange(start * self.batch, (start + count) * self.batch))
            length = np.empty(len(window.row), np.int64)
            for number in np.unique(window.corpus):
                mine = window.corpus == number
                length[mine] = self.lengths(int(number), window.row[mine])
            place = np.argsort(length, kind="stable").reshape(count, self.batch)
            place = place[permute(np.arange(count), count, absorb(self._key, start))].ravel()
            window = Location(window.corpus[place], window.epoch[place], window.row[place])
            self._last = start, window
        return window
