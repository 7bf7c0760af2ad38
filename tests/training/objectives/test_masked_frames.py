"""Hidden frames are rebuilt: the loss is what it says, it falls, and what is exported opens as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.corruptions import build as corruption_of
from data_prep.corruptions import config_of
from data_prep.facts import DataFacts
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Rows
from training import objectives
from training.config import NetworkConfig, ObjectiveConfig
from training.inference.encoding import open_encoder
from training.objective import loss_of

NETWORK = NetworkConfig(
    architecture="bert",
    config={
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
)


def rows(count: int = 6) -> Rows:
    lengths = np.arange(20, 20 + 5 * count, 5)
    steps = np.concatenate([np.arange(length) for length in lengths])
    values = np.sin(steps[:, None] / np.arange(2, 6)).astype(np.float32)
    clean: Rows = {"input": Ragged.from_lengths(values, lengths)}
    return corruption_of(config_of({"kind": "masked-frames"}))(clean, Draws(key(0, "x"), 0, np.arange(count)))


def test_loss_falls_and_the_export_opens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    facts = DataFacts(kind="sound", columns=("input",), shape=(4,), length=50)
    objective: Any = objectives.build(ObjectiveConfig(name="masked-frames"), {"model": NETWORK}, facts, "cpu")
    model, batch = objective.networks()["model"], objective.collate(rows())
    (turn,) = objective.turns("train", 0)
    rebuilt = model(batch["frames"], batch["attention_mask"], batch["target_positions"])
    by_hand = (rebuilt - batch["target"]).abs().sum()
    assert torch.equal(loss_of(turn, {"model": model}, batch).sums["l1"], by_hand)
    assert turn.weights(batch) == {"l1": float(batch["target"].numel())}
    flat = Ragged(rows()["input"].values, rows()["input"].offsets).pad(batch["frames"].shape[1], 0).reshape(-1, 4)  # type: ignore[union-attr]
    assert np.array_equal(flat[batch["target_positions"]], batch["target"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        loss = loss_of(turn, {"model": model}, batch).sums["l1"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * by_hand.item()
    objective.export(tmp_path / "model", [])
    features = open_encoder(tmp_path / "model").encode(rows())
    assert features.values.shape == (6, 45, 16) and features.mask is not None
    assert features.mask.sum(1).tolist() == [20, 25, 30, 35, 40, 45]
    with torch.no_grad():
        states = model.encode(batch["frames"], batch["attention_mask"])[0, :20]
    assert np.abs(features.values[0, :20] - states.numpy()).max() < 1e-4
    assert objective.collate(objective.example(2))["frames"].shape == (2, 56, 4)
