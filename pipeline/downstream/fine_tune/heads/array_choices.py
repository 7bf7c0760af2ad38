"""Which of a row's choices is right, where it and they are arrays in files: it is compared with each of them.

What is long is read in pieces (`arrays`), whose scores are averaged before choices are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example
from data_prep.shards.rows import Ragged
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, arrays, choices

AT_ONCE = arrays.AT_ONCE
outputs = choices.outputs


def encode(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout) -> Encoded:
    return arrays.in_pieces(shape, examples, read, layout, choices.truth(examples))


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    return choices.predicted(shape, encoded, of_examples(encoded, scores))


def of_examples(encoded: Encoded, scores: Ragged) -> Ragged:
    ends = np.cumsum(encoded.more["pieces"])
    of_rows = zip(ends - encoded.more["pieces"], ends, strict=True)
    return Ragged.from_rows(
        np.mean([scores.row(row) for row in range(first, end)], 0, np.float64) for first, end in of_rows
    )
