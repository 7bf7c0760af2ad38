"""BART and MASS in the loop: they learn, however a step is divided, and go on as if they had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.corruptions import build as build_corruption
from data_prep.corruptions import config_of
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.distributed import Worker

STACK = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}
NETWORK = NetworkConfig(
    architecture="bart",
    config={
        **{"d_model": 32, "max_position_embeddings": 32, "dropout": 0.0},
        **{f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in STACK.items()},
    },
)
CORRUPTIONS: dict[str, dict[str, Any]] = {
    "bart": {"kind": "bart", "permute": 0, "unit": "token", "replace": "mask"},
    "mass": {"kind": "mass"},
}
each = pytest.mark.parametrize("name", CORRUPTIONS)


def losses(name: str, worker: Worker | None = None, **options: Any) -> list[float]:
    records: list[dict[str, Any]] = []
    options = {"log": records.append, **options}
    training(name, worker, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record]


def training(name: str, worker: Worker | None = None, **options: Any) -> Any:
    corrupt = build_corruption(config_of(CORRUPTIONS[name]), tiny.SPECIALS)
    section = ObjectiveConfig(name="sequence-to-sequence")
    return tiny.training(worker, sentence="none", section=section, network=NETWORK, corrupt=corrupt, **options)


@each
def test_it_learns_and_every_weight_moves(name: str) -> None:
    records: list[dict[str, Any]] = []
    made = training(name, steps=120, lr=1e-2, log=records.append)
    network = made.objective.networks()["model"]
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    summary = made.run()
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert summary["validation/lm"] < 0.8 * losses[0]
    assert [key for key, parameter in network.named_parameters() if torch.equal(parameter, before[key])] == []


@each
def test_the_mean_does_not_depend_on_micro_batches(name: str) -> None:
    cut = losses(name, steps=4, placement=PlacementConfig(micro_batch=5))
    assert cut == pytest.approx(losses(name, steps=4), abs=3e-6)


@each
def test_resume_is_bit_equal(name: str, tmp_path: Path) -> None:
    placement = PlacementConfig(checkpoint_every=3)
    whole = losses(name, steps=8, placement=placement)
    stopped: list[float] = []

    def stop(record: dict[str, Any]) -> None:
        if "train/loss" in record:
            stopped.append(record["train/loss"])
            if len(stopped) == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(name, steps=8, placement=placement, checkpoints=tmp_path, log=stop).run()
    assert stopped == whole[:5]
    assert losses(name, steps=8, placement=placement, checkpoints=tmp_path) == whole[3:]


def _on_two(worker: Worker) -> dict[str, dict[Any, list[float]]]:
    return {
        name: {
            zero: losses(name, worker, steps=6, placement=PlacementConfig(workers=2, zero=zero, micro_batch=5))  # type: ignore[arg-type]
            for zero in (None, 2)
        }
        for name in CORRUPTIONS
    }


@pytest.mark.slow
def test_two_workers_and_zero_2_follow_one() -> None:
    by_placement = in_group(2, _on_two)[0]
    for name, of_zero in by_placement.items():
        alone = losses(name, steps=6)
        assert of_zero[None] == pytest.approx(alone, abs=3e-6)
        assert of_zero[2] == pytest.approx(alone, abs=5e-6)
