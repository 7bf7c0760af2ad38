"""Parts of a job that an earlier attempt finished are taken as they are, and nothing after them changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged
from pipeline.downstream import finished, train_in_memory
from pipeline.downstream.compression import codecs
from pipeline.downstream.compression.job import Config
from pipeline.stage import Context
from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoders.autoencoder import save_model
from training.objectives import build

SETTINGS: dict[str, Any] = {
    "kind": "images",
    "corruption": {"kind": "none"},
    "network": {"architecture": "mlp", "config": {"hidden": [8], "bottleneck": 3}},
    "objective": {"name": "autoencoder"},
    "train": {"global_batch": 4, "steps": 6, "lr": 1e-2, "precision": "fp32", "log_every": 2},
}
ROWS: dict[str, Any] = {"input": np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), np.uint8)}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(downloads=tmp_path, work=tmp_path / "work", placement={"threads": 1})


def weights(network: Any) -> dict[str, torch.Tensor]:
    return network.model.state_dict()


def test_a_network_is_trained_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[int] = []
    original = train_in_memory.train_objective

    def train_objective(objective: Any, *arguments: Any, **options: Any) -> Any:
        trainings.append(1)
        return original(objective, *arguments, **options)

    monkeypatch.setattr(train_in_memory, "train_objective", train_objective)
    first = train_in_memory.trained(SETTINGS, ROWS, 1, context)
    drawn = torch.rand(3)
    done: list[float] = []
    again = train_in_memory.trained(SETTINGS, ROWS, 1, context, progress=done.append)
    assert len(trainings) == 1 and done == [1.0] and again.records == first.records
    assert torch.equal(drawn, torch.rand(3)), "what follows draws the same numbers"
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(again).items())
    others: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        (SETTINGS, ROWS, 2),
        (SETTINGS, {"input": ROWS["input"][::-1]}, 1),
        ({**SETTINGS, "train": {**SETTINGS["train"], "lr": 2e-2}}, ROWS, 1),
    ]
    for number, (settings, rows, seed) in enumerate(others, 2):
        train_in_memory.trained(settings, rows, seed, context)
        assert len(trainings) == number
    elsewhere = train_in_memory.trained(SETTINGS, ROWS, 1, Context(placement={"threads": 1}))
    assert len(trainings) == 5, "without a work folder nothing is kept"
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(elsewhere).items())


def test_codecs_finished_before_an_interrupt_are_not_trained_again(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {
        **SETTINGS,
        "seed": 0,
        "network": {"architecture": "conv", "config": {"hidden": [4], "bottleneck": 4, "latent": "grid"}},
        "objective": {"name": "compression", "options": {"distortion_weight": 0.01}},
    }
    train = np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8), np.uint8)
    facts = DataFacts("images", ("input",), (3, 8, 8))
    objective = ObjectiveConfig.model_validate(settings["objective"])
    own: Any = build(objective, {"model": NetworkConfig.model_validate(settings["network"])}, facts, "cpu")
    folder = tmp_path / "pretrained"
    save_model(folder / "model", own.model)
    asked = Config.model_validate(
        {"task": "compression", "name": "codec", "images": [{"path": "/none"}], "distortion_weights": [0.002, 0.03]}
    )
    trainings: list[float] = []
    original = train_in_memory.train_objective

    def train_objective(objective: Any, *arguments: Any, **options: Any) -> Any:
        trainings.append(objective.model.options.distortion_weight)
        if trainings == [0.002, 0.03]:
            raise KeyboardInterrupt
        return original(objective, *arguments, **options)

    monkeypatch.setattr(train_in_memory, "train_objective", train_objective)
    pretrained: Any = type("Pretrained", (), {"path": folder})
    with pytest.raises(KeyboardInterrupt):
        codecs._models(asked, settings, pretrained, train, tmp_path / "first", context)
    models = codecs._models(asked, settings, pretrained, train, tmp_path / "second", context)
    assert trainings == [0.002, 0.03, 0.03] and [weight for weight, _ in models] == [0.01, 0.002, 0.03]


def test_parts_go_with_the_job_that_is_finished(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def part(name: str) -> str:
        def save(value: str, folder: Path) -> None:
            (folder / "value").write_text(value)

        def make() -> str:
            calls.append(name)
            return name

        return finished.once(context, {"name": name}, make, save, lambda folder: (folder / "value").read_text())

    assert [part("a"), part("b"), part("a")] == ["a", "b", "a"] and calls == ["a", "b"]
    finished.forget(context)
    assert not (context.work / finished.FOLDER).exists()
    finished.forget(replace(context, work=Context().work))
    assert part("a") == "a" and calls == ["a", "b", "a"]


def test_rows_are_told_apart_by_names_shapes_and_values() -> None:
    rows = np.arange(6, dtype=np.int32)
    different = [
        {"input": rows},
        {"input": rows.reshape(2, 3)},
        {"input": rows.astype(np.int64)},
        {"other": rows},
        {"input": rows[::-1]},
        {"input": Ragged.from_lengths(rows, np.array([2, 4]))},
        {"input": Ragged.from_lengths(rows, np.array([4, 2]))},
    ]
    digests = [finished.digest_of(each) for each in different]
    assert len(set(digests)) == len(different) and finished.digest_of(None) is None
    assert finished.digest_of({"input": rows[::-1].copy()}) == digests[4]
