"""One label, or one number, for a text or a pair of texts. What is too long is cut, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged, Rows
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, softmax


def outputs(shape: Shape) -> int:
    return 1 if shape.head == "score" else len(shape.labels)


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    tokenizer.enable_truncation(layout.length)
    with using_tokenizer():
        encodings = tokenizer.encode_batch([as_input(example) for example in examples])
    rows = {
        **truth(shape, examples),
        "input": Ragged.from_rows([encoding.ids for encoding in encodings], np.uint32),
        "segment": Ragged.from_rows([encoding.type_ids for encoding in encodings], np.uint8),
    }
    cut = sum(bool(encoding.overflowing) for encoding in encodings)
    return Encoded(rows, examples, [Counted(cut, len(examples), f"rows have over {layout.length} tokens and are cut")])


def truth(shape: Shape, examples: Sequence[Example]) -> Rows:
    """What is to be learned of each example."""
    if shape.head == "class":
        return {"label": np.array([example.label for example in examples], np.int64)}
    mean, spread = shape.scale
    scores = np.array([mean if example.score is None else example.score for example in examples])
    return {"value": ((scores - mean) / spread).astype(np.float32)}


def as_input(example: Example) -> Any:
    """A text, or a pair of texts, as tokenizers take it."""
    return example.text if example.text_pair is None else (example.text, example.text_pair)


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    if shape.head == "score":
        mean, spread = shape.scale
        return Predicted((mean + spread * scores.values[:, 0].astype(np.float64)).tolist(), [None] * len(scores))
    shares = softmax(scores.values.astype(np.float64))
    return Predicted(shares.argmax(-1).tolist(), shares.max(-1).tolist())
