"""The job that sets a stack of machines beside other ways to train, and plain gradient descent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream import train_in_memory
from pipeline.downstream.autoencoders.curves import ERROR, RivalConfig, changed, phases
from pipeline.downstream.train_in_memory import TrainedNetwork
from pipeline.recipe.load import load, load_pretraining
from pipeline.stages import pretrain
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import whole_report
from tests.training import tiny_arrays as tiny_training
from training.inference.networks.arrays import open_model

JOB = """{name: curves, task: curves, ours: machines, rivals: [
  {name: 'plain SGD', activation: sigmoid, optimizer: sgd, lr: 0.5},
  {name: 'relu, Adam', activation: relu, optimizer: adamw, lr: 1e-2}]}"""
SECTIONS = {
    "network": "{architecture: mlp, config: {hidden: [32, 16], bottleneck: 8, activation: sigmoid, output: sigmoid}}",
    "objective": "{name: rbm, options: {loss: cross-entropy}}",
    "train": "{global_batch: 32, steps: 240, lr: 1e-2, log_every: 40, evaluate_every: 40, precision: fp32}",
    "downstream": f"[{JOB}]".replace("\n", " "),
    "placement": "{threads: 1}",
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    home = tmp_path_factory.mktemp("curves")
    return tiny_arrays.make(tiny_arrays.recipe(home, "images", **SECTIONS), home)


def test_every_way_is_followed_to_its_end_and_the_report_is_whole(artifacts: dict[str, Artifact]) -> None:
    report = whole_report(artifacts["curves"])
    curves = report.notes["curves"]
    assert list(curves) == ["machines", "plain SGD", "relu, Adam"] == [row[0] for row in report.tables[0].rows]
    assert all([step for step, _ in points] == list(range(40, 241, 40)) for points in curves.values())
    assert curves["machines"][-1][1] < curves["machines"][0][1]
    errors = report.notes["errors"]
    assert len(set(errors.values())) == 3
    assert errors["relu, Adam"] < errors["plain SGD"], "deep sigmoid units hardly move by plain gradients"
    assert errors["relu, Adam"] < report.notes["mean"]


def test_a_rerun_finds_the_same(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    assert tiny_arrays.rerun(artifacts, "curves", tmp_path / "again") == artifacts["curves"].summary


def test_rivals_learn_from_training_rows_and_are_followed_on_validation_rows(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test rows have a say in the table alone."""
    model = open_model(artifacts["pretrain"].path / MODEL)
    read: list[tuple[np.ndarray, np.ndarray]] = []
    seeds: list[int] = []

    def trained(config: Any, rows: Any, seed: int, context: Any, held_out: Any, progress: Any) -> TrainedNetwork:
        seeds.append(seed)
        read.append((scaled(np.asarray(rows["input"])), scaled(np.asarray(held_out["input"]))))
        return TrainedNetwork(model, [{"step": 3, ERROR: 0.5}])

    monkeypatch.setattr(train_in_memory, "trained", trained)
    summary = tiny_arrays.rerun(artifacts, "curves", tmp_path / "again")
    assert len(read) == 2 == len(set(seeds))
    for train, held_out in read:
        assert np.array_equal(train, tiny_arrays.rows_of(artifacts, "train")[0])
        assert np.array_equal(held_out, tiny_arrays.rows_of(artifacts, "validation")[0])
    unseen, _ = tiny_arrays.rows_of(artifacts, "test")
    with torch.no_grad():
        rebuilt = model(torch.from_numpy(unseen)).numpy()
    error = float(np.square(rebuilt - unseen).reshape(len(unseen), -1).sum(1).mean())
    assert [summary[f"error/{name}"] for name in ("machines", "plain-sgd", "relu-adam")] == pytest.approx([error] * 3)
    mean = tiny_arrays.rows_of(artifacts, "train")[0].mean(0)
    of_mean = float(np.square(mean - unseen).reshape(len(unseen), -1).sum(1).mean())
    assert summary["error/mean_of_rows"] == pytest.approx(of_mean)


def test_phases_end_where_training_changes(artifacts: dict[str, Artifact]) -> None:
    ends = phases(artifacts["curves"].config)
    assert ends == {"rbm-1": 40, "rbm-2": 80, "rbm-3": 120, "fine-tuning": 240}


def test_a_rival_differs_in_what_it_says_alone() -> None:
    config = {
        "network": {"architecture": "mlp", "config": {"hidden": [4], "activation": "sigmoid"}},
        "objective": {"name": "rbm", "options": {"loss": "cross-entropy", "pretraining": 0.3}},
        "train": {"steps": 10, "lr": 0.1},
        "corruption": {"kind": "none"},
    }
    settings = changed(config, RivalConfig(name="x", activation="relu", optimizer="sgd", lr=2.0))
    assert settings["objective"] == {"name": "autoencoder", "options": {"loss": "cross-entropy"}}
    assert settings["network"]["config"] == {"hidden": [4], "activation": "relu"}
    assert settings["train"] == {"steps": 10, "lr": 2.0, "optimizer": "sgd"}
    assert settings["corruption"] == config["corruption"]


def test_plain_gradient_descent_is_one_step_along_the_gradient() -> None:
    training = tiny_training.training("autoencoder", steps=1, optimizer="sgd", lr=0.5, schedule="constant", clip=0.0)
    model = training.objective.networks()["model"]
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    rows = training.objective.collate(training.stream.read(torch.arange(24).numpy()))
    error = model(rows["input"], rows["input"])["squared-error"].sum() / rows["input"].numel()
    gradients = torch.autograd.grad(error, list(model.parameters()))
    training.run()
    for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert torch.allclose(weight, before[name] - 0.5 * gradient, atol=1e-6), name


def test_plain_gradient_descent_goes_on_from_a_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    uninterrupted = tiny_training.losses("autoencoder", optimizer="sgd", lr=0.5)
    stopped: list[float] = []
    first = tiny_training.training(
        "autoencoder", optimizer="sgd", lr=0.5, checkpoints=tmp_path, log=lambda r: stopped.append(r["train/loss"])
    )
    first.stop = lambda: len(stopped) >= 6
    assert first.run()["stopped"]
    rest = tiny_training.losses("autoencoder", optimizer="sgd", lr=0.5, checkpoints=tmp_path)
    assert rest == uninterrupted[len(uninterrupted) - len(rest) :] and 0 < len(rest) < len(uninterrupted)


def test_the_optimizer_is_in_a_key_only_where_it_is_another(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path, "images")
    assert "optimizer" not in pretrain.config(load_pretraining(path))["train"]
    assert pretrain.config(load_pretraining(path, overrides=["train.optimizer=sgd"]))["train"]["optimizer"] == "sgd"
    assert "augment" not in pretrain.config(load_pretraining(path))
    assert pretrain.config(load_pretraining(path, overrides=["augment={translate: 1}"]))["augment"]["translate"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.optimizer=sgd", "placement.zero=2"], "train.optimizer: sgd has no state for ZeRO to divide"),
        (["objective={name: autoencoder}"], "objective.name: curves is of rbm, found autoencoder"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tiny_arrays.recipe(tmp_path, "images", **SECTIONS), overrides=settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)
