"""A loss of the whole batch is that of one process that holds it all, however the batch is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_players as tiny
from tests.training.group import in_group
from tests.training.tiny_players import Contrastive, info_nce
from training.config import PlacementConfig
from training.distributed import Worker

STEPS = 4


def reference(steps: int = STEPS, **options: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and last weights of a plain loop with the whole batch in memory."""
    objective = tiny.seeded(Contrastive, **options)
    training = tiny.training(objective, steps=steps, schedule="constant", optimizer="sgd", clip=0.0, weight_decay=0.0)
    losses = []
    for step in range(steps):
        batch, _ = training._read(np.arange(step * 24, step * 24 + 24))
        loss = info_nce({name: objective.network(batch[name]) for name in ("one", "two")}).sums["info-nce"]
        gradients = torch.autograd.grad(loss, list(objective.network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(objective.network.parameters(), gradients, strict=True):
                parameter -= training.config.lr * gradient
        losses.append(float(loss.detach()))
    return losses, {name: p.detach().clone() for name, p in objective.network.named_parameters()}


def run(worker: Worker, **placement: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    records: list[dict[str, Any]] = []
    objective = tiny.seeded(Contrastive)
    adam: dict[str, Any] = {} if placement.get("zero") is not None else {"optimizer": "sgd", "weight_decay": 0.0}
    training = tiny.training(
        objective,
        worker,
        placement=PlacementConfig(workers=worker.world, **placement),
        log=records.append,
        **{"steps": STEPS, "schedule": "constant", "clip": 0.0, **adam},
    )
    training.run()
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    return worker.gather(losses)[0], {name: p.detach().clone() for name, p in objective.network.named_parameters()}


def matches(actual: Any, wanted: Any) -> None:
    assert actual[0] == pytest.approx(wanted[0], abs=2e-6)
    for name, weight in wanted[1].items():
        torch.testing.assert_close(actual[1][name], weight, atol=2e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("micro_batch", [None, 24, 12, 7, 1])
def test_the_update_is_that_of_the_whole_batch(micro_batch: int | None) -> None:
    matches(run(Worker(), micro_batch=micro_batch), reference())


def _all_placements(worker: Worker) -> dict[Any, Any]:
    zeros = [{"zero": zero, "micro_batch": 5} for zero in (0, 1, 2)] if worker.world == 2 else []
    placements = [{}, {"micro_batch": 4}, *zeros]
    return {str(placement): run(worker, **placement) for placement in placements}


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_workers_and_any_zero_stage_give_the_same(world: int) -> None:
    alone = {"plain": reference(), "zero": run(Worker(), zero=0)}
    for by_placement in in_group(world, _all_placements):
        for placement, result in by_placement.items():
            matches(result, alone["zero" if "zero" in placement else "plain"])


def test_dropout_is_alike_in_both_passes() -> None:
    """Else the gradient would be that of other features than the loss is of."""
    objective = tiny.seeded(Contrastive, dropout=0.5)
    seen: list[torch.Tensor] = []
    plain = objective._features
    objective._features = lambda nets, batch: seen.append((out := plain(nets, batch))["one"].detach()) or out
    tiny.training(objective, steps=1, placement=PlacementConfig(micro_batch=12)).run()
    first, second = seen[:2], seen[2:4]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("zero", [None, 1])
def test_resume_is_bit_equal(tmp_path: Path, zero: Any) -> None:
    placement = PlacementConfig(micro_batch=12, checkpoint_every=3, zero=zero)
    options: dict[str, Any] = {"options": {"dropout": 0.2}, "placement": placement}
    uninterrupted = tiny.losses(Contrastive, **options)
    records: list[Any] = []
    stopping = tiny.training(
        tiny.seeded(Contrastive, dropout=0.2), placement=placement, checkpoints=tmp_path, log=records.append
    )
    stopping.stop = lambda: len(records) >= 4
    stopping.run()
    resumed = tiny.losses(Contrastive, **options, checkpoints=tmp_path)
    assert resumed == uninterrupted[-len(resumed) :] and 0 < len(resumed) < len(uninterrupted)


def _evaluate(worker: Worker) -> dict[str, float]:
    placement = PlacementConfig(workers=worker.world, micro_batch=5)
    return tiny.training(tiny.seeded(Contrastive), worker, placement=placement).evaluate()


def test_evaluation_sees_whole_batches_too() -> None:
    alone = tiny.training(tiny.seeded(Contrastive)).evaluate()
    assert set(alone) == {"validation/loss", "validation/info-nce", "validation/accuracy"}
    for evaluation in in_group(3, _evaluate):
        assert evaluation == pytest.approx(alone, abs=1e-6)


def test_running_statistics_are_those_of_one_pass() -> None:
    objective = tiny.seeded(Contrastive, norm=True)
    tiny.training(objective, steps=1).run()
    assert int(objective.network[1].num_batches_tracked) == 2  # once for each view


def test_training_learns() -> None:
    losses = tiny.losses(Contrastive, steps=60)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
