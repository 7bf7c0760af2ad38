"""Rows of shards that have one value throughout: images of one colour, silence."""

from __future__ import annotations

import numpy as np

from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, network_input, num_rows
from data_prep.stats.counts import evenly

MOST_BATCHES = 64  # read, evenly spaced


def of_rows(shards: Shards) -> dict[str, int]:
    """Numbers of `rows` looked at and of those that are `uniform`."""
    rows = same = 0
    for number in evenly(shards.num_batches, min(shards.num_batches, MOST_BATCHES), "uniform rows"):
        batch = shards.batch(number)
        column = network_input(batch)
        rows += num_rows(batch)
        if isinstance(column, Ragged):
            values = column.values.reshape(len(column.values), -1)
            starts = column.offsets[:-1][column.lengths > 0]
            if len(starts):
                least, most = (
                    function.reduceat(reduced, starts)
                    for function, reduced in ((np.minimum, values.min(1)), (np.maximum, values.max(1)))
                )
                same += int((least == most).sum())
        else:
            flat = np.asarray(column).reshape(len(column), -1)
            same += int((flat.min(1) == flat.max(1)).sum())
    return {"rows": rows, "uniform": same}
