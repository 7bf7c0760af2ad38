"""Batches of rows of like length, so that little of a batch is padding.

    window of batches ─► its rows, by the order ─► sorted by length ─► cut into batches ─► batches in keyed order

Which rows a window has is decided by the order, and stays: in each epoch every row still comes exactly once. Only which
of them go together changes. What a batch holds depends on its number alone: not on workers, nor on where one begins.

A window of one corpus lies within one epoch, of which every row is as likely as any other in every place; the batch in
which one epoch ends and the next begins is as the order has it. In a mixture, whose corpora end at different times,
windows are as many batches each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from data_prep.rng import absorb, key
from data_prep.shards.order import Location, Order, permute


class LengthBuckets:
    """An order, its rows regrouped within windows of batches.

    lengths: of rows [n] of the corpus with this number, [n]. batch: samples of a step; it is numbers b·batch …
    (b + 1)·batch - 1. window: batches that are sorted together: O(window · batch) time for each, and memory for the
    last one.
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
        """The first batch that windows around each batch may have, and the one behind the last. Both [B]."""
        rows, *others = (corpus.rows for corpus in self.order.corpora)
        if others:
            return np.zeros_like(batch), np.full_like(batch, np.iinfo(np.int64).max)
        epoch = batch * self.batch // rows
        return -(-epoch * rows // self.batch), (epoch + 1) * rows // self.batch

    def _window(self, start: int, count: int) -> Location:
        """Where the samples of `count` batches from `start` on are, [count · batch] each."""
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
