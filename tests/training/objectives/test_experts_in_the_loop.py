"""Experts in the loop: they learn, however a step is divided and they themselves are, and go on as if never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.corruptions import build as build_corruption
from data_prep.corruptions import config_of
from data_prep.errors import UserError
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.distributed import Worker

NETWORK = NetworkConfig(
    architecture="switch_transformers",
    config={
        **{"d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2, "dropout_rate": 0.0, "router_jitter_noise": 0.0},
        **{"num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        **{"num_experts": 4, "router_aux_loss_coef": 0.01, "router_z_loss_coef": 0.001},
    },
)
UNLIMITED = {"capacity": 0.0, "evaluation_capacity": 0.0}
# Drops where it should: room for a quarter of a row's tokens and less, of groups of two rows.
NARROW = {"capacity": 1.0, "evaluation_capacity": 1.0, "group": 2}


def training(worker: Worker | None = None, routing: dict[str, Any] | None = None, **options: Any) -> Any:
    corrupt = build_corruption(config_of({"kind": "mass"}), tiny.SPECIALS)
    section = ObjectiveConfig(name="sequence-to-sequence", options={"routing": routing or UNLIMITED})
    options = {"steps": 6, **options}
    return tiny.training(worker, sentence="none", section=section, network=NETWORK, corrupt=corrupt, **options)


def run(worker: Worker | None = None, **options: Any) -> tuple[list[float], dict[str, Any]]:
    """The losses of its steps, and its summary."""
    records: list[dict[str, Any]] = []
    options = {"log": records.append, **options}
    summary = training(worker, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record], summary


def test_it_learns_and_every_weight_moves() -> None:
    made = training(steps=80, lr=1e-2, routing=NARROW)
    network = made.objective.networks()["model"]
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    summary = made.run()
    assert summary["validation/lm"] < 0.9 * 3.9
    assert summary["validation/balance"] > 0 and summary["validation/loss"] == summary["validation/lm"]
    assert 0 < summary["validation/experts/dropped"] < 0.5
    assert [key for key, parameter in network.named_parameters() if torch.equal(parameter, before[key])] == []


def test_the_mean_does_not_depend_on_micro_batches_even_where_tokens_are_dropped() -> None:
    whole, summary = run(routing=NARROW)
    cut, of_cut = run(routing=NARROW, placement=PlacementConfig(micro_batch=6))
    assert cut == pytest.approx(whole, abs=3e-6)
    for name in ("experts/dropped", "experts/balance", "use/encoder-1/002"):
        assert of_cut[f"validation/{name}"] == pytest.approx(summary[f"validation/{name}"], abs=1e-5)


def test_groups_that_would_be_cut_are_refused() -> None:
    with pytest.raises(UserError, match="groups of 2 rows"):
        training(routing=NARROW, placement=PlacementConfig(micro_batch=5))


def test_zero_3_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"^placement\.zero: 3 divides every weight"):
        training(placement=PlacementConfig(zero=3))


def _stopped(worker: Worker, folder: Path, placement: PlacementConfig, at: int = 4) -> tuple[list[float], list[float]]:
    """Losses of a run that is stopped after `at` steps, and of what goes on from its checkpoint."""
    seen: list[float] = []

    def stop(record: dict[str, Any]) -> None:
        seen.extend([record["train/loss"]] if "train/loss" in record else [])

    made = training(worker, checkpoints=folder, placement=placement, routing=NARROW, log=stop)
    made.stop = lambda: len(seen) >= at - 1
    made.run()
    return seen, run(worker, checkpoints=folder, placement=placement, routing=NARROW)[0]


def test_resume_is_bit_equal(tmp_path: Path) -> None:
    placement = PlacementConfig(checkpoint_every=100)
    whole, _ = run(placement=placement, routing=NARROW)
    before, after = _stopped(Worker(), tmp_path, placement)
    assert before + after == whole and len(after) < len(whole)


PLACEMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "zero 1": {"zero": 1},
    "zero 2": {"zero": 2},
    "zero 1, divided": {"zero": 1, "expert_parallel": 2},
    "zero 2, divided": {"zero": 2, "expert_parallel": 2},
}


def _on_two(worker: Worker, folder: Path) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    for name, chosen in PLACEMENTS.items():
        placement = PlacementConfig(workers=2, micro_batch=6, **chosen)
        unlimited, summary = run(worker, placement=placement)
        narrow, _ = run(worker, placement=placement, routing=NARROW)
        outcome[name] = {"unlimited": unlimited, "narrow": narrow, "validation": summary["validation/lm"]}
        outcome[name]["held"] = [of["model"]["parameters"] for of in summary["bytes_held"]]
    placement = PlacementConfig(workers=2, micro_batch=6, zero=2, expert_parallel=2, checkpoint_every=100)
    outcome["resumed"] = _stopped(worker, folder, placement)
    made = training(worker, placement=placement)
    made.run()
    with made.engines["model"].whole():
        outcome["whole"] = {name: p.detach().clone() for name, p in made.objective.network.named_parameters()}
    outcome["own"] = sorted(name for name, _ in made.objective.network.named_parameters() if "experts" in name)
    return outcome


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return in_group(2, _on_two, folder), folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACEMENTS)
def test_two_workers_follow_one(name: str, on_two: tuple[list[dict[str, Any]], Path]) -> None:
    of_two = on_two[0][0][name]
    alone, summary = run()
    assert of_two["unlimited"] == pytest.approx(alone, abs=3e-6)
    assert of_two["validation"] == pytest.approx(summary["validation/lm"], abs=3e-6)
    assert of_two["narrow"] == pytest.approx(run(routing=NARROW)[0], abs=3e-6)  # groups are whole rows


@pytest.mark.slow
def test_divided_experts_are_on_one_worker_each(on_two: tuple[list[dict[str, Any]], Path]) -> None:
    workers, _ = on_two
    expert = 2 * 32 * 64 * 4  # bytes
    for name, divided in (("zero 2", 0), ("zero 2, divided", 4)):  # two of four experts, in two layers
        assert workers[0][name]["held"] == [workers[0]["zero 2"]["held"][0] - divided * expert] * 2
    names = [{key.split(".experts.")[1].split(".")[0] for key in worker["own"]} for worker in workers]
    assert names == [{"expert_0", "expert_1"}, {"expert_2", "expert_3"}]
    made = training()
    made.run()
    for key, parameter in made.objective.network.named_parameters():
        torch.testing.assert_close(workers[0]["whole"][key], parameter.detach(), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_divided_experts_go_on_bit_for_bit_and_on_one_worker(on_two: tuple[list[dict[str, Any]], Path]) -> None:
    (lead, _), folder = on_two
    before, after = lead["resumed"]
    assert before + after == lead["zero 2, divided"]["narrow"]
    (last,) = folder.glob("step-00000006-*")
    shutil.rmtree(last)  # the checkpoint before it was written by two workers
    assert run(checkpoints=folder, routing=NARROW)[0] == pytest.approx(run(routing=NARROW)[0][len(before) :], abs=3e-6)
