"""One label, or one number, for an array in a file, such as the frames of a recording.

    file ─► [L, width], as the network's pretraining made them ─► pieces of at most `length` ─► scores ─► their mean

Each piece of what is long is learned with the label of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.opening.files import UnfitError
from data_prep.shards.rows import Ragged, Rows, pieces, take
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, rows

AT_ONCE = 64  # examples that are in memory as arrays
outputs = rows.outputs
Read = Callable[[Path | bytes], np.ndarray]


def encode(shape: Shape, examples: Sequence[Example], read: Read, layout: Layout) -> Encoded:
    parts = [pieces(array_of(example, read), layout.length) for example in examples]
    counts = np.array([len(of_example) for of_example in parts], np.int64)
    of_pieces: Rows = {
        **take(rows.truth(shape, examples), np.repeat(np.arange(len(examples)), counts)),
        "input": Ragged.from_rows(chain.from_iterable(parts), np.float32),
    }
    text = f"rows have over {layout.length} positions and are read in pieces, whose scores are averaged"
    return Encoded(of_pieces, examples, [Counted(int((counts > 1).sum()), len(examples), text)], {"pieces": counts})


def array_of(example: Example, read: Read) -> np.ndarray:
    """What a network reads of an example, [L, width]. UserError where its file has become none since it was checked."""
    try:
        values = read(example.content or Path(example.file))
    except UnfitError as error:
        raise UserError(f"{example.place}: {error}; mend the file, or leave the row out.") from None
    start, end = example.omitted
    return values if start == end else np.concatenate([values[:start], values[end:]])


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    return rows.predicted(shape, encoded, of_examples(encoded, scores))


def of_examples(encoded: Encoded, scores: Ragged) -> Ragged:
    counts = encoded.more["pieces"]
    begins = np.cumsum(counts) - counts
    means = np.add.reduceat(scores.values.astype(np.float64), begins) / counts[:, None]
    return Ragged.from_lengths(means, np.ones(len(counts), np.int64))
