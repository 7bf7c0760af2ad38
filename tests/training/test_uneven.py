"""The loss is one mean over all targets, however unevenly they lie: on any engine, workers and micro-batches.

In every step some workers have no target at all, some have one row, and micro-batches hold from none to many. Losses,
metrics and the weights that come of them are those of one worker that takes the batch whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.shards.rows import Ragged, Rows
from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig, ZeroConfig
from training.data import Samples, worker_samples
from training.distributed import Worker

BATCH, STEPS = 23, 3  # a prime number of rows: never the same for all workers
EPS = 1e-4  # AdamW's; with less, what is lost in rounding is divided by nearly nothing
NAMES = ("loss", "mlm", "sop", "mlm_accuracy", "sop_accuracy")


@dataclass
class Uneven:
    """A stream of which few rows keep their targets: the first half of each step's none, the last ones most."""

    stream: Samples

    def read(self, samples: np.ndarray) -> Rows:
        rows = dict(self.stream.read(samples))
        positions = rows["target_positions"]
        assert isinstance(positions, Ragged)
        kept = np.minimum(positions.lengths, targets_of(samples))
        keep = positions.positions() < kept[positions.row_index()]
        offsets = np.concatenate([[0], np.cumsum(kept)])
        for name in ("target_positions", "target_ids"):
            column = rows[name]
            assert isinstance(column, Ragged)
            rows[name] = Ragged(column.values[keep], offsets)
        return rows


def targets_of(samples: np.ndarray) -> np.ndarray:
    """Most targets of each sample."""
    place = samples % BATCH
    return np.maximum(place - BATCH // 2, 0) // 4


def outcome(worker: Worker, zero: Any, micro_batch: int | None, steps: int = STEPS) -> dict[str, Any]:
    """Losses and metrics by step, and the weights after the last."""
    records: list[dict[str, Any]] = []
    # Every weight is partitioned, however small: workers then need each other in every pass, also who has no row.
    settings = ZeroConfig(param_persistence_threshold=0)
    placement = PlacementConfig(
        workers=worker.world,
        zero=zero,
        micro_batch=micro_batch,
        zero_settings=settings,  # type: ignore[arg-type]
    )
    training = tiny.training(
        worker, dropout=0.0, placement=placement, log=records.append, global_batch=BATCH, steps=steps, eps=EPS
    )
    training.stream = Uneven(training.stream)
    training.held_out = Uneven(training.held_out)  # type: ignore[arg-type,assignment]
    summary = training.run()
    with training.engines["model"].whole():
        weights = {n: p.detach().clone() for n, p in training.objective.networks()["model"].named_parameters()}
    curves = {name: [record[f"train/{name}"] for record in records if f"train/{name}" in record] for name in NAMES}
    return {"curves": curves, "validation": summary["validation/mlm"], "weights": weights}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return outcome(Worker(), None, None)


def the_same(actual: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in NAMES:
        assert actual["curves"][name] == pytest.approx(wanted["curves"][name], abs=5e-6), name
    assert actual["validation"] == pytest.approx(wanted["validation"], abs=5e-6)
    for name, weight in wanted["weights"].items():
        torch.testing.assert_close(
            actual["weights"][name], weight, atol=3e-6, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_targets_lie_as_unevenly_as_is_said() -> None:
    for world in (2, 3, 4):
        counts = [targets_of(worker_samples(0, BATCH, 1, rank, world)[0]).sum() for rank in range(world)]
        assert min(counts) == 0 < max(counts)  # a worker without any
    of_four = [targets_of(part) for rank in range(4) for part in worker_samples(0, BATCH, 5, rank, 4)]
    assert {len(part) for part in of_four} == {1, 2}
    assert sum(part.sum() == 0 for part in of_four) > 5  # micro-batches without a target


def test_a_mean_of_means_would_be_seen(whole: dict[str, Any]) -> None:
    """What is compared below tells a true mean from an average of the workers' own."""
    training = tiny.training(dropout=0.0, global_batch=BATCH)
    stream = Uneven(training.stream)
    turn: Any = training.objective.turns("train", 0)[0]
    sums, weights = [], []
    for rank in range(4):
        [part] = worker_samples(0, BATCH, 1, rank, 4)
        batch = training.objective.collate(stream.read(part))
        with torch.no_grad():
            sums.append(float(turn.loss(training.forwards, batch).sums["mlm"]))
        weights.append(turn.weights(batch)["mlm"])
    mean = sum(sums) / sum(weights)
    of_means = [s / w for s, w in zip(sums, weights, strict=True) if w]
    assert whole["curves"]["mlm"][0] == pytest.approx(mean, abs=5e-6)
    assert abs(np.mean(of_means) - mean) > 1e-3


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 22])
def test_one_worker_in_micro_batches(micro_batch: int, whole: dict[str, Any]) -> None:
    the_same(outcome(Worker(), None, micro_batch), whole)


def _all(worker: Worker, cases: list[tuple[int | None, int | None]]) -> dict[Any, Any]:
    return {case: outcome(worker, *case) for case in cases}


CASES: list[tuple[int | None, int | None]] = [(zero, micro) for zero in (None, 1, 2, 3) for micro in (None, 3, 2)]


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_workers_and_zero_stages(world: int, whole: dict[str, Any]) -> None:
    results = in_group(world, _all, CASES)
    for case in CASES:
        zero, _ = case
        # Every rank ends with the same weights, those of one worker that took the batch whole.
        for rank in range(world):
            result = results[rank][case]
            if rank == 0:
                the_same(result, whole)
            elif zero != 3:  # there, rank 0 alone need see them whole
                for name, weight in results[0][case]["weights"].items():
                    assert torch.equal(result["weights"][name], weight), (case, rank, name)
