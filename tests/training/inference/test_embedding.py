"""Batches and pooling of vectors: each row once, and none depends on the rows beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards.rows import Rows, ragged
from training.inference import embedding
from training.inference.embedding import Embedder, batches, normalized, pooled
from training.inference.encoding import BATCH, Features


@given(st.lists(st.integers(0, 3 * embedding.POSITIONS)))
def test_each_row_of_some_length_is_in_one_batch_that_fits(lengths: list[int]) -> None:
    array = np.array(lengths, np.int64)
    parts = list(batches(array))
    numbers = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    assert sorted(numbers.tolist()) == np.flatnonzero(array).tolist()
    for part in parts:
        assert len(part) == 1 or len(part) * array[part].max() <= embedding.POSITIONS
        assert len(part) <= BATCH
    assert (np.diff(array[numbers]) <= 0).all()


def test_poolings() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    features = Features(values, np.array([[True, True, False], [True, True, True]]))
    assert pooled(features, "mean").tolist() == [[1, 2], [8, 9]]
    assert pooled(features, "cls").tolist() == [[0, 1], [6, 7]]
    assert pooled(features, "last").tolist() == [[2, 3], [10, 11]]
    assert pooled(Features(values[:, 0]), "last").tolist() == values[:, 0].tolist()
    assert normalized(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


class Frames:
    """An encoder of frames of two numbers, whose features are those frames."""

    takes, longest = (None, 2), None

    def encode(self, rows: Rows) -> Features:
        frames = ragged(rows, "input")
        mask = np.arange(frames.lengths.max()) < frames.lengths[:, None]
        return Features(frames.pad(mask.shape[1], 0), mask)


class Tables:
    """An encoder of rows of three numbers."""

    takes, longest = (3,), None

    def encode(self, rows: Rows) -> Features:
        return Features(np.asarray(rows["input"]) * 2)


def test_arrays_of_any_length_and_of_one_are_embedded() -> None:
    frames: Any = Embedder(Frames(), "mean")
    made = frames([np.ones((5, 2), np.float32), np.zeros((0, 2), np.float32), np.full((1, 2), 3, np.float32)])
    assert made.vectors.tolist() == [[1, 1], [0, 0], [3, 3]] and made.lengths.tolist() == [5, 0, 1]
    tables: Any = Embedder(Tables(), "mean")
    assert tables([np.arange(3, dtype=np.float32)]).vectors.tolist() == [[0, 2, 4]]
    assert (frames.width, tables.width) == (2, 3)
