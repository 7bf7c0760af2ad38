"""ZeRO 0–3 on two workers follow plain PyTorch's golden curve, and really partition what they say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig
from training.distributed import Worker

STAGES = (0, 1, 2, 3)


def _run(worker: Worker) -> dict[Any, Any]:
    results: dict[Any, Any] = {}
    for zero in (None, *STAGES):
        records: list[dict[str, Any]] = []
        training = tiny.training(
            worker,
            dropout=0.0,
            placement=PlacementConfig(workers=2, zero=zero, micro_batch=5),
            log=records.append,
        )
        summary = training.run()
        results[zero] = {
            "losses": worker.gather([r["train/loss"] for r in records if "train/loss" in r])[0],
            "validation": summary["validation/mlm"],
            "held": summary["bytes_held"][worker.rank]["model"],
        }
    return results


@pytest.fixture(scope="module")
def runs() -> list[dict[Any, Any]]:
    return in_group(2, _run)


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return tiny.losses(dropout=0.0)


def test_two_plain_workers_follow_one(runs: list[dict[Any, Any]], alone: list[float]) -> None:
    assert runs[0][None]["losses"] == pytest.approx(alone, abs=2e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_a_zero_stage_follows_the_golden_curve(stage: int, runs: list[dict[Any, Any]], alone: list[float]) -> None:
    assert runs[0][stage]["losses"] == pytest.approx(tiny.GOLDEN, abs=2e-4)  # any CPU
    assert runs[0][stage]["losses"] == pytest.approx(alone, abs=5e-6)  # this CPU
    assert runs[0][stage]["validation"] == pytest.approx(runs[0][None]["validation"], abs=5e-6)


def test_optimizer_state_is_partitioned_from_stage_1(runs: list[dict[Any, Any]]) -> None:
    all_bytes = runs[0][None]["held"]["optimizer"]
    assert runs[0][0]["held"]["optimizer"] == pytest.approx(all_bytes, rel=0.02)
    for stage in (1, 2, 3):
        shares = [run[stage]["held"]["optimizer"] for run in runs]
        assert all(0.45 * all_bytes < share < 0.56 * all_bytes for share in shares), (stage, shares, all_bytes)


def test_parameters_are_partitioned_at_stage_3_only(runs: list[dict[Any, Any]]) -> None:
    all_bytes = runs[0][None]["held"]["parameters"]
    for stage in (0, 1, 2):
        assert runs[0][stage]["held"]["parameters"] == all_bytes
    for run in runs:
        assert 0.45 * all_bytes < run[3]["held"]["parameters"] < 0.56 * all_bytes


def _run_in_bf16(worker: Worker) -> dict[Any, list[float]]:
    return {
        zero: tiny.losses(
            worker=worker,
            dropout=0.0,
            precision="bf16",
            placement=PlacementConfig(workers=2, zero=zero, micro_batch=5),
        )
        for zero in (None, *STAGES)
    }


def test_every_stage_follows_plain_bf16() -> None:
    runs = in_group(2, _run_in_bf16)[0]
    for stage in STAGES:
        assert runs[stage] == pytest.approx(runs[None], abs=2e-3), stage
    assert runs[None] == pytest.approx(tiny.GOLDEN, rel=0.03)
    assert runs[None] != pytest.approx(tiny.GOLDEN, abs=1e-5)
