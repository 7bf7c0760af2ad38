"""Which of a row's choices is right: each is read with the row's text, and their scores are compared (BERT, 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged, Rows
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, softmax


def outputs(shape: Shape) -> int:
    return 1


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    """Text and choice as a pair; of two texts the second stands before the choice."""
    tokenizer.enable_truncation(layout.length)
    pairs = [
        (example.text, choice if example.text_pair is None else f"{example.text_pair} {choice}")
        for example in examples
        for choice in example.choices
    ]
    with using_tokenizer():
        encodings = tokenizer.encode_batch(pairs)
    numbers = [len(example.choices) for example in examples]
    lengths = Ragged.from_lengths(np.array([len(encoding.ids) for encoding in encodings], np.int64), numbers)
    of_rows = np.add.reduceat(lengths.values, lengths.offsets[:-1]) if examples else np.zeros(0, np.int64)
    cut_pairs = np.array([bool(encoding.overflowing) for encoding in encodings], bool)
    cut = np.unique(lengths.row_index()[cut_pairs])
    ids = np.array(list(chain.from_iterable(encoding.ids for encoding in encodings)), np.uint32)
    segments = np.array(list(chain.from_iterable(encoding.type_ids for encoding in encodings)), np.uint8)
    rows = {
        **truth(examples),
        "input": Ragged.from_lengths(ids, of_rows),
        "segment": Ragged.from_lengths(segments, of_rows),
        "choice": lengths,
    }
    text = f"rows have choices of over {layout.length} tokens, which are cut"
    return Encoded(rows, examples, [Counted(len(cut), len(examples), text)])


def truth(examples: Sequence[Example]) -> Rows:
    """What is to be learned of each example."""
    return {"label": np.array([max(example.label, 0) for example in examples], np.int64)}


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    shares = [softmax(scores.row(row)[:, 0].astype(np.float64)) for row in range(len(scores))]
    return Predicted([int(share.argmax()) for share in shares], [float(share.max()) for share in shares])
