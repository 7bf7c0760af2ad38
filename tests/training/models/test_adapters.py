"""Adapters and the linear layer learn alone, and become part of a network that others open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from tests.training.inference import writers
from tests.training.objectives import test_writing
from tests.training.objectives.test_fine_tuning import encoder, learned, rows
from training.inference.networks.text import open_trainable, open_writer
from training.models import adapters
from training.models.adapters import Adapters, AdaptersConfig
from training.objectives.fine_tuning import FineTuning
from training.objectives.writing import Writing

installed = pytest.mark.skipif(adapters.missing() is not None, reason="the extra `adapters` is not installed")
CONFIG = AdaptersConfig(rank=2, alpha=8.0, modules=["query", "value", "intermediate.dense"])


def adapted(config: AdaptersConfig = CONFIG) -> tuple[FineTuning, Adapters]:
    torch.manual_seed(0)
    source = encoder()
    added = Adapters(source.network, config)
    return FineTuning(source, "class", 3, dropout=0.0), added


def weights_of(objective: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in objective.network.state_dict().items()}


def moved(objective: Any, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in objective.network.state_dict().items() if not torch.equal(tensor, before[name])}


@installed
def test_adapters_and_the_linear_layer_learn_alone() -> None:
    objective, _ = adapted()
    before = weights_of(objective)
    learning = sum(weight.numel() for weight in objective.network.parameters() if weight.requires_grad)
    assert learning == 2 * 2 * (16 + 16) + 2 * (16 + 32) + 3 * (16 + 1)
    first, last = learned(objective, rows())
    assert last < 0.5 * first
    of_adapters = {name for name in before if "lora_" in name}
    assert len(of_adapters) == 2 * 3 and moved(objective, before) == of_adapters | {
        "classifier.weight",
        "classifier.bias",
    }


@installed
def test_merged_the_network_has_its_old_shape_and_gives_the_same(tmp_path: Path) -> None:
    from transformers import AutoModel

    shape = {name: tensor.shape for name, tensor in FineTuning(encoder(), "class", 3).network.state_dict().items()}
    objective, added = adapted()
    untrained = objective.scores(rows()).values
    learned(objective, rows(), 20)
    trained = objective.scores(rows()).values
    added.merge()
    assert np.abs(trained - untrained).max() > 0.05
    np.testing.assert_allclose(objective.scores(rows()).values, trained, atol=1e-5)
    assert {name: tensor.shape for name, tensor in objective.network.state_dict().items()} == shape
    network: Any = objective.encoder.network
    network.save_pretrained(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path)
    for name, tensor in opened.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


@installed
@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_a_network_that_writes_learns_by_adapters_alone(architecture: str, tmp_path: Path) -> None:
    """Merged, saved and opened again it writes the same, by the same loss; a decoder and an encoder with one."""
    writer = open_writer(writers.write(tmp_path / "it", architecture, spread=0.02))
    untrained = test_writing.loss(Writing(writer.copied(), 8), test_writing.ROWS)
    added = Adapters(writer.network, AdaptersConfig(rank=4, alpha=32.0, modules="all-linear"))
    objective = Writing(writer, 8)
    before = weights_of(objective)
    test_writing.train(objective, steps=60)
    trained = test_writing.loss(objective, test_writing.ROWS)
    assert trained < 0.9 * untrained
    assert moved(objective, before) == {name for name in before if "lora_" in name}
    added.merge()
    assert test_writing.loss(objective, test_writing.ROWS) == pytest.approx(trained, rel=1e-4)
    writer.save(tmp_path / "saved")
    opened = Writing(open_writer(tmp_path / "saved"), 8)
    assert test_writing.loss(opened, test_writing.ROWS) == pytest.approx(trained, rel=1e-4)


@installed
def test_the_library_knows_where_adapters_go_in_usual_networks() -> None:
    objective, _ = adapted(AdaptersConfig())
    names = {name for name, weight in objective.network.named_parameters() if weight.requires_grad and "lora_" in name}
    assert names == {
        f"encoder.encoder.layer.0.attention.self.{layer}.lora_{side}.default.weight"
        for layer in ("query", "value")
        for side in "AB"
    }


@installed
def test_adapters_learn_at_the_rate_of_their_layer(tmp_path: Path) -> None:
    two = open_trainable(writers.write(tmp_path, "gpt2"))
    Adapters(two.network, AdaptersConfig())
    objective = FineTuning(two, "class", 3, "last", layer_decay=0.5)
    learning = [name for name, weight in objective.network.named_parameters() if weight.requires_grad]
    shares = [objective.network.rate_shares[name] for name in learning if "lora_" in name]
    layers = len(two.layers)
    assert sorted(set(shares), reverse=True) == [0.5**depth for depth in range(1, layers + 1)] and layers > 1


@installed
def test_modules_that_there_are_not_are_refused() -> None:
    with pytest.raises(UserError, match=r"adapters: BertModel: .*keys.* not found.*; name layers in adapters.modules"):
        adapted(AdaptersConfig(modules=["keys"]))


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None if name == "peft" else sys)
    assert adapters.missing() == "need peft; install it: pip install 'sesame-ssl[adapters]'"
    monkeypatch.setattr(adapters, "find_spec", lambda name: sys)
    assert adapters.missing() is None
