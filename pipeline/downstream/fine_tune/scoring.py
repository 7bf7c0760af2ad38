"""Scores of many rows by a network, with little padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.shards.rows import Ragged, Rows, ragged
from pipeline.downstream.fine_tune.heads import Encoded

TEST_BATCH = 64


def scores_of(scorer: Callable[[Rows], Ragged], rows: Encoded) -> Ragged:
    """Scores of all rows, in order. Rows are grouped by length, for less padding."""
    order = np.argsort(-ragged(rows.rows, "input").lengths, kind="stable")
    starts = range(0, len(order), TEST_BATCH)
    scores = Ragged.concat([scorer(rows.take(order[a : a + TEST_BATCH])) for a in starts])
    return scores.take(np.argsort(order))
