"""One vector for each text, or for each array of numbers, by a trained network.

values ─► rows ─► batches of rows of like lengths ─► network ─► [B, L, D] ─► pooled ─► [R, D], in the values' order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer

from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged, Rows, ragged, take
from training.inference.encoding import BATCH, Encoder, Features

Pooling = Literal["mean", "cls", "last"]
Precision = Literal["fp32", "bf16"]
POSITIONS = 4096  # of a batch, padding included: more of them do not fit into caches


@dataclass(frozen=True)
class Embedded:
    """vectors: float32 [R, D], zeros for a value of no length. lengths: int64 [R], of what was read of the values.
    is_cut: bool [R], whether a value is longer than that."""

    vectors: np.ndarray
    lengths: np.ndarray
    is_cut: np.ndarray


@dataclass(frozen=True)
class Embedder:
    """An encoder, and how one vector is made of what it gives.

    tokenizer: of encoders of texts. length: most tokens of a text, specials included; what is longer is cut; None:
    nothing is. normalize: whether vectors get length 1.
    """

    encoder: Encoder
    pooling: Pooling
    normalize: bool = False
    tokenizer: Tokenizer | None = None
    length: int | None = None
    precision: Precision = "fp32"
    device: str = "cpu"

    @cached_property
    def width(self) -> int:
        """Size of the vectors."""
        sizes = [1 if size is None else size for size in self.encoder.takes or ()]
        return self(["a"] if self.tokenizer else [np.zeros(sizes, np.float32)]).vectors.shape[1]

    def __call__(self, values: Sequence[Any]) -> Embedded:
        """Vectors of texts or, for encoders of numbers, of float32 arrays of the shape `encoder.takes`."""
        rows, lengths, is_cut = self._of_arrays(values) if self.tokenizer is None else self._of_texts(values)
        vectors: np.ndarray | None = None
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"):
            for index in batches(lengths):
                of_batch = pooled(self.encoder.encode(take(rows, index)), self.pooling)
                if vectors is None:
                    vectors = np.zeros((len(lengths), of_batch.shape[1]), np.float32)
                vectors[index] = of_batch
        if vectors is None:
            vectors = np.zeros((len(lengths), 0), np.float32)
        return Embedded(normalized(vectors) if self.normalize else vectors, lengths, is_cut)

    def _of_texts(self, texts: Sequence[str]) -> tuple[Rows, np.ndarray, np.ndarray]:
        assert self.tokenizer is not None
        rows, is_cut = rows_of_texts(self.tokenizer, texts, self.length)
        return rows, ragged(rows, "input").lengths, is_cut

    def _of_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Rows, np.ndarray, np.ndarray]:
        takes, is_cut = self.encoder.takes or (), np.zeros(len(arrays), bool)
        if None not in takes:
            return {"input": np.stack(arrays)}, np.ones(len(arrays), np.int64), is_cut
        column = Ragged.from_rows(arrays, np.float32, [size for size in takes if size is not None])
        return {"input": column}, column.lengths, is_cut


def rows_of_texts(tokenizer: Tokenizer, texts: Sequence[str], length: int | None = None) -> tuple[Rows, np.ndarray]:
    """Rows of texts, each with its special tokens, and whether each was cut, bool [R].

    length: most tokens of a text, specials included; None: as the tokenizer does.
    """
    if length is not None:
        tokenizer.enable_truncation(length)
    with using_tokenizer():
        encodings = tokenizer.encode_batch_fast(list(texts))
    rows: Rows = {
        "input": Ragged.from_rows([encoding.ids for encoding in encodings], np.uint32, ()),
        "segment": Ragged.from_rows([encoding.type_ids for encoding in encodings], np.uint8, ()),
    }
    return rows, np.array([bool(encoding.overflowing) for encoding in encodings], bool)


def batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of rows that have a length, the longest first: if there is memory for a batch, there is for the next."""
    order = np.argsort(-lengths, kind="stable")[: int((lengths > 0).sum())]
    start = 0
    while start < len(order):
        count = min(max(1, POSITIONS // int(lengths[order[start]])), BATCH)
        yield order[start : start + count]
        start += count


def pooled(features: Features, pooling: Pooling) -> np.ndarray:
    """One vector for each row, float32 [R, D]: the mean of its positions, or its first or its last one."""
    if features.values.ndim == 2 or pooling == "mean":
        return features.mean()
    if pooling == "cls" or features.mask is None:
        return features.values[:, 0 if pooling == "cls" else -1]
    return features.values[np.arange(len(features.values)), features.mask.sum(1) - 1]


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; those of length 0 stay as they are."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
