"""A run goes on with another number of workers, another ZeRO stage, or without ZeRO, as if nothing had changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig
from training.distributed import Worker
from training.engines import checkpoint as checkpoints

Stages = tuple[int | None, ...]
USUAL: Stages = (None, 2, 3)
ALL: Stages = (None, 0, 1, 2, 3)
STEPS, HALF = 4, 2
Change = tuple[int, int | None, int | None]  # workers before, stage before, stage now


def _run(worker: Worker, folder: Path, zero: Any, **options: Any) -> dict[str, Any]:
    records: list[dict[str, Any]] = []
    training = tiny.training(
        worker,
        placement=PlacementConfig(
            workers=worker.world, zero=zero, micro_batch=12, checkpoint_every=HALF, keep_checkpoints=2
        ),
        checkpoints=folder,
        log=records.append,
        **{"dropout": 0.0, "steps": STEPS, **options},
    )
    summary = training.run()
    return {
        "losses": worker.gather([r["train/loss"] for r in records if "train/loss" in r])[0],
        "validation": summary["validation/mlm"],
        "resumed_from": summary["resumed_from"],
    }


def _runs(worker: Worker, root: Path, uninterrupted: Stages, changes: list[Change]) -> dict[Any, Any]:
    """Uninterrupted runs at these stages, and runs that go on from the middle of others."""
    results: dict[Any, Any] = {}
    for zero in uninterrupted:
        results[zero] = _run(worker, root / f"{worker.world}-{zero}", zero)
    for change in changes:
        world, before, now = change
        folder = root / f"{world}-{before}-to-{worker.world}-{now}"
        if worker.leads:
            half = checkpoints.committed(root / f"{world}-{before}")[0]
            assert half.position.step == HALF
            shutil.copytree(half.folder, folder / half.folder.name)
        worker.barrier()
        results[change] = _run(worker, folder, now)
    return results


@pytest.fixture(scope="module", params=[pytest.param(USUAL, id="usual"), pytest.param(ALL, marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stages, dict[int, Any]]:
    """The stages, and by number of workers what `_runs` found. Those of 2 workers come in two launches."""
    stages: Stages = request.param
    root = tmp_path_factory.mktemp("elastic")
    same = [(2, stage, stage) for stage in stages]
    changed: list[Change] = [(2, before, now) for before, now in zip(stages, stages[2:] + stages[:2], strict=True)]
    # What goes on bit by bit comes first: ZeRO-3 leaves its own linear layer to the rest of a process's life.
    back = [(world, stage, stage) for world in (2, 1, 3) for stage in stages]
    two = in_group(2, _runs, root, stages, [])[0]
    alone = in_group(1, _runs, root, stages, [*same, *changed])[0]
    three = in_group(3, _runs, root, stages, same)[0]
    return stages, {1: alone, 2: {**two, **in_group(2, _runs, root, (), [*back, *changed])[0]}, 3: three}


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2), (2, 3), (3, 2)])
def test_another_number_of_workers(before: int, now: int, runs: tuple[Stages, dict[int, Any]]) -> None:
    stages, by_workers = runs
    for stage in stages:
        went_on, uninterrupted = by_workers[now][before, stage, stage], by_workers[before][stage]
        assert went_on["resumed_from"] == HALF
        assert went_on["losses"] == pytest.approx(uninterrupted["losses"][HALF:], abs=1e-5), stage
        assert went_on["losses"] == pytest.approx(by_workers[1][None]["losses"][HALF:], abs=1e-5), stage
        assert went_on["validation"] == pytest.approx(uninterrupted["validation"], abs=1e-5), stage


def test_the_same_number_goes_on_bit_by_bit(runs: tuple[Stages, dict[int, Any]]) -> None:
    stages, by_workers = runs
    for stage in stages:
        went_on, uninterrupted = by_workers[2][2, stage, stage], by_workers[2][stage]
        assert went_on["losses"] == uninterrupted["losses"][HALF:], stage
        assert went_on["validation"] == uninterrupted["validation"], stage


@pytest.mark.parametrize("now", [1, 2])
def test_another_stage(now: int, runs: tuple[Stages, dict[int, Any]]) -> None:
    stages, by_workers = runs
    changes = [change for change in by_workers[now] if isinstance(change, tuple) and change[1] != change[2]]
    assert len(changes) == len(stages)
    for change in changes:
        uninterrupted = by_workers[2][change[1]]["losses"]
        assert by_workers[now][change]["losses"] == pytest.approx(uninterrupted[HALF:], abs=1e-5), change


SEEDS = range(12)


def _noisy(worker: Worker, root: Path, go_on: bool) -> list[float]:
    """Validation losses after training with dropout, by seed of the dropout."""
    curves = []
    for seed in SEEDS:
        folder = root / str(seed)
        if go_on:
            checkpoints.remove(checkpoints.committed(folder)[-1].folder)
        training = tiny.training(
            worker,
            placement=PlacementConfig(workers=worker.world, zero=2, checkpoint_every=12),
            checkpoints=folder,
            steps=24,
        )
        training.seed = seed
        summary = training.run()
        assert summary["resumed_from"] == (12 if go_on else 0)
        curves.append(summary["validation/mlm"])
    return curves


@pytest.mark.slow
def test_with_dropout_another_number_of_workers_is_as_good(tmp_path: Path) -> None:
    """Each worker draws its own noise, so curves differ; their mean does not."""
    uninterrupted = torch.tensor(in_group(2, _noisy, tmp_path, False)[0], dtype=torch.float64)
    went_on = torch.tensor(in_group(1, _noisy, tmp_path, True)[0], dtype=torch.float64)
    difference = went_on - uninterrupted
    error = float(difference.std()) / len(SEEDS) ** 0.5
    assert 0 < error < 0.002 * float(uninterrupted.mean())  # what the test can tell apart
    assert abs(float(difference.mean())) < 3 * error
