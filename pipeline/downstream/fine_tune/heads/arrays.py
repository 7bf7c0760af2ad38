"""One label, or one number, for an array in a file, such as the frames of a recording, or for two of them.

    file ─► [L, width], as the network's pretraining made them ─► pieces of at most `length` ─► scores ─► their mean

Each piece of what is long is learned with the label of the whole. Of two files a piece of each is compared with one of
the other; those of the one with fewer are taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example
from data_prep.opening.files import UnfitError
from data_prep.shards.rows import Ragged, Rows, pieces, take
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, rows

AT_ONCE = 64  # examples that are in memory as arrays
outputs = rows.outputs


def encode(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout) -> Encoded:
    return in_pieces(shape, examples, read, layout, rows.truth(shape, examples))


def in_pieces(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout, truth: Rows) -> Encoded:
    """Rows of pieces of examples, each with the example's truth. Of several files a row has a piece of each, one after
    another, and `part`, their lengths."""
    parts = [_pieces(example, read, layout.length) for example in examples]
    counts = np.array([len(of_example) for of_example in parts], np.int64)
    of_pieces: Rows = {
        **take(truth, np.repeat(np.arange(len(examples)), counts)),
        "input": Ragged.from_rows(map(_joined, chain.from_iterable(parts)), np.float32),
    }
    if shape.paired:
        lengths = ([len(part) for part in row] for row in chain.from_iterable(parts))
        of_pieces["part"] = Ragged.from_rows(lengths, np.int64)
    text = f"rows have over {layout.length} positions and are read in pieces, whose scores are averaged"
    return Encoded(of_pieces, examples, [Counted(int((counts > 1).sum()), len(examples), text)], {"pieces": counts})


def _pieces(example: Example, read: FileReader, length: int) -> list[list[np.ndarray]]:
    """A piece of each file of an example, as often as one of them has pieces."""
    of_files = [pieces(array_of(example, read, number), length) for number in range(len(example.files))]
    return [[of_file[row % len(of_file)] for of_file in of_files] for row in range(max(map(len, of_files)))]


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def array_of(example: Example, read: FileReader, number: int = 0) -> np.ndarray:
    """What a network reads of a file of an example, [L, width]. UserError where it has become none since it was
    checked."""
    try:
        source = example.files[number]
        values = read(source if isinstance(source, bytes) else Path(source))
    except UnfitError as error:
        raise UserError(f"{example.place}: {error}; mend the file, or leave the row out.") from None
    start, end = (0, 0) if number else example.omitted
    return values if start == end else np.concatenate([values[:start], values[end:]])


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    return rows.predicted(shape, encoded, of_examples(encoded, scores))


def of_examples(encoded: Encoded, scores: Ragged) -> Ragged:
    counts = encoded.more["pieces"]
    begins = np.cumsum(counts) - counts
    means = np.add.reduceat(scores.values.astype(np.float64), begins) / counts[:, None]
    return Ragged.from_lengths(means, np.ones(len(counts), np.int64))
