"""Batches of rows of like length, so that little of a batch is padding.

    window of batches ─► its rows, by the order ─► sorted by length ─► cut into batches ─► batches in keyed order

Which rows a window has is decided by the order, and stays: in each epoch every row still comes exactly once. Only which
of them go together changes. A window lies within one epoch, of which every row is as likely as any other in every
place; the batch in which one epoch ends and the next begins is as the order has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from data_prep.rng import absorb, key
from data_prep.shards.order import Location, Order, permute


class LengthBuckets:
    """The order of one corpus, its rows regrouped within windows of batches.

    lengths: [rows], of the corpus's rows. batch: samples of a step; it is numbers b·batch … (b + 1)·batch - 1.
    window: batches that are sorted together: O(window · batch) time for each, and memory for the last one.
    """

    def __init__(self, order: Order, lengths: ArrayLike, batch: int, window: int, seed: int) -> None:
        self.order, self.lengths, self.batch, self.window = order, np.asarray(lengths), batch, window
        if [corpus.rows for corpus in order.corpora] != [len(self.lengths)]:
            raise ValueError(f"{len(self.lengths)} lengths for corpora of {[one.rows for one in order.corpora]} rows")
        if batch < 1 or window < 1:
            raise ValueError("batch and window must be at least 1")
        self._key = key(seed, "order.buckets", order.corpora[0].name)
        self._last = -1, np.empty((0, batch), np.int64)  # first batch of a window, and its rows

    def locate(self, samples: ArrayLike) -> Location:
        """Corpus, epoch and row of each sample number; `samples`: [B] int64, each ≥ 0. Rows of a batch are sorted."""
        samples = np.atleast_1d(np.asarray(samples, np.int64))
        corpus, epoch, row = self.order.locate(samples)
        row, rows, batch = row.copy(), len(self.lengths), samples // self.batch
        whole = batch * self.batch // rows == ((batch + 1) * self.batch - 1) // rows  # all in one epoch
        begins = -(-epoch * rows // self.batch)  # the first batch of an epoch that is, and the one behind the last
        ends = (epoch + 1) * rows // self.batch
        first = begins + (batch - begins) // self.window * self.window
        for start in np.unique(first[whole]):
            mine = whole & (first == start)
            found = self._window(int(start), min(self.window, int(ends[mine][0]) - int(start)))
            row[mine] = found[batch[mine] - start, samples[mine] % self.batch]
        return Location(corpus, epoch, row)

    def _window(self, start: int, count: int) -> np.ndarray:
        """Rows [count, batch] of the window that begins with batch `start`."""
        last, rows = self._last
        if last != start:
            rows = self.order.locate(np.arange(start * self.batch, (start + count) * self.batch)).row
            rows = rows[np.argsort(self.lengths[rows], kind="stable")].reshape(count, self.batch)
            rows = rows[permute(np.arange(count), count, absorb(self._key, start))]
            self._last = start, rows
        return rows
