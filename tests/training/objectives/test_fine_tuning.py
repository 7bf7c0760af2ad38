"""A row's answer is its own: what it is pooled from is neither padding nor another row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from data_prep.shards.rows import Ragged, Rows, take
from training.objectives.fine_tuning import FineTuning

LENGTHS = [4, 19, 9]


def objective(pooling: Any) -> FineTuning:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return FineTuning(BertModel(config), Path(), ["a", "b", "c"], pooling, pad=0)


def rows() -> Rows:
    random = np.random.default_rng(0)
    tokens = [random.integers(5, 40, length) for length in LENGTHS]
    first = [[1, 2], [1, 5, 17], [3]]  # pieces of words
    return {
        "input": Ragged.from_rows(tokens, np.uint32),
        "segment": Ragged.from_rows([np.zeros(length) for length in LENGTHS], np.uint8),
        "label": np.array([0, 1, 2]),
        "target_positions": Ragged.from_rows(first, np.int64),
        "target_ids": Ragged.from_rows([[0, 1], [2, 0, 1], [2]], np.int64),
    }


def pooled(built: FineTuning, chosen: Rows) -> tuple[np.ndarray, np.ndarray]:
    """What is classified [M, H], and the encoder's output [B, L, H]."""
    kept: list[torch.Tensor] = []
    network: Any = built.network.eval()
    handles = [
        network.encoder.register_forward_hook(lambda _, inputs, output: kept.append(output.last_hidden_state)),
        network.classifier.register_forward_hook(lambda _, inputs, output: kept.append(inputs[0])),
    ]
    built.predict(chosen)
    for handle in handles:
        handle.remove()
    hidden, features = kept
    return features.numpy(), hidden.numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean", "words", "last"])
def test_a_row_is_read_alone_as_beside_longer_ones(pooling: str) -> None:
    built, everything = objective(pooling), rows()
    together, hidden = pooled(built, everything)
    assert hidden.shape[:2] == (3, 24)
    alone = [pooled(built, take(everything, np.array([number])))[0] for number in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    wanted = {
        "cls": [hidden[number, 0] for number in range(3)],
        "last": [hidden[number, length - 1] for number, length in enumerate(LENGTHS)],
        "mean": [hidden[number, :length].mean(0) for number, length in enumerate(LENGTHS)],
        "words": [hidden[0, 1], hidden[0, 2], hidden[1, 1], hidden[1, 5], hidden[1, 17], hidden[2, 3]],
    }
    np.testing.assert_allclose(together, np.stack(wanted[pooling]), atol=1e-6)


def test_dropout_is_for_training_alone() -> None:
    built = objective("mean")
    built.network.train()
    assert np.array_equal(pooled(built, rows())[0], pooled(built, rows())[0])
    batch = built.collate(rows())
    (turn,) = built.turns("train", 0)
    built.network.train()
    losses = {turn.loss({"model": built.network}, batch).sums["label"].item() for _ in range(3)}
    assert len(losses) == 3
