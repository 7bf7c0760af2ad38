"""SimCLR: the loss is the paper's, the same however a batch is cut; it falls, and its encoder opens elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.shards.rows import Rows
from tests.training import tiny_arrays as tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.distributed import Worker
from training.engines.scopes import batch_statistics
from training.inference.encoding import open_encoder
from training.inference.sampling import open_sampler
from training.objectives import problems
from training.objectives.arrays.simclr import nt_xent


def training(worker: Worker | None = None, **options: Any) -> Any:
    return tiny.training("simclr", worker, **options)


def plain(z: torch.Tensor, temperature: float) -> tuple[float, float]:
    """Equation 1 of the paper and its mean over all 2N views, term by term; and how often the other view is nearest."""
    views = [(row, view) for row in range(len(z)) for view in range(2)]
    paid, right = 0.0, 0
    for row, view in views:
        like = {
            view_of_row: math.exp(float(z[row, view] @ z[view_of_row]) / temperature)
            for view_of_row in views
            if view_of_row != (row, view)
        }
        paid -= math.log(like[row, 1 - view] / sum(like.values()))
        right += max(like, key=like.__getitem__) == (row, 1 - view)
    return paid / len(views), right / len(views)


@pytest.mark.parametrize(("rows", "temperature"), [(1, 0.5), (2, 0.1), (7, 0.5), (7, 1.0)])
def test_the_loss_is_the_papers(rows: int, temperature: float) -> None:
    z = F.normalize(torch.randn(rows, 2, 5, generator=torch.Generator().manual_seed(rows)), dim=2)
    loss, accuracy = nt_xent(z, temperature)
    assert (float(loss), float(accuracy)) == pytest.approx(plain(z, temperature), abs=1e-5)


def test_views_that_are_all_alike_pay_the_logarithm_of_their_number() -> None:
    z = F.normalize(torch.ones(8, 2, 4), dim=2)
    assert float(nt_xent(z, 0.3)[0]) == pytest.approx(math.log(15), abs=1e-5)


def run(worker: Worker, **placement: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, step by step, and last weights."""
    records: list[dict[str, Any]] = []
    trained = training(
        worker,
        placement=PlacementConfig(workers=worker.world, **placement),
        log=records.append,
        steps=3,
        optimizer="sgd",
        clip=0.0,
    )
    trained.run()
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    weights = {name: p.detach().clone() for name, p in trained.objective.network.named_parameters()}
    return worker.gather(losses)[0], weights


def matches(actual: Any, other: Any) -> None:
    assert len(actual[0]) == 3 and actual[0] == pytest.approx(other[0], abs=5e-6)
    for name, weight in other[1].items():
        torch.testing.assert_close(actual[1][name], weight, atol=5e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("micro_batch", [24, 7, 1])
def test_any_micro_batch_gives_the_same(micro_batch: int) -> None:
    matches(run(Worker(), micro_batch=micro_batch), run(Worker()))


def _cut(worker: Worker) -> list[Any]:
    evaluated = training(worker, placement=PlacementConfig(workers=worker.world, micro_batch=5)).evaluate()
    return [run(worker), run(worker, micro_batch=5), evaluated]


def test_two_workers_give_the_same() -> None:
    alone, evaluated = run(Worker()), training().evaluate()
    for result, parts, held_out in in_group(2, _cut):
        matches(result, alone)
        matches(parts, alone)
        assert held_out == pytest.approx(evaluated, abs=1e-5)


def test_the_loss_falls_weights_move_and_images_stay_apart(tmp_path: Path) -> None:
    images = tiny.photographs(200)
    trained = training(rows=images, steps=120, log_every=40)
    before = {name: p.detach().clone() for name, p in trained.objective.network.named_parameters()}
    start, summary = trained.evaluate(), trained.run()
    after = trained.evaluate()
    assert after["validation/nt-xent"] < 0.9 * start["validation/nt-xent"]
    assert after["validation/contrastive-accuracy"] > 1.5 * start["validation/contrastive-accuracy"]
    healthy = 1 / math.sqrt(trained.objective.options.projection)
    assert 0.5 * healthy < after["validation/embedding-std"] < 1.05 * healthy
    assert summary["validation/nt-xent"] == after["validation/nt-xent"]
    for name, parameter in trained.objective.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name

    trained.export(tmp_path)
    rows: Rows = {"input": images[:70]}
    features = open_encoder(tmp_path).encode(rows).values
    assert features.shape == (70, 16) and features.dtype == np.float32
    trained.objective.network.eval()
    with torch.no_grad():
        wanted = trained.objective.encoder.encode(torch.from_numpy(rows["input"]) / 255)
    np.testing.assert_allclose(features, wanted.numpy(), atol=1e-5)
    with pytest.raises(UserError, match="kind encoder has no distribution of codes"):
        open_sampler(tmp_path)


def test_resume_is_bit_equal(tmp_path: Path) -> None:
    placement = PlacementConfig(checkpoint_every=2, micro_batch=12)
    uninterrupted: list[dict[str, Any]] = []
    training(placement=placement, log=uninterrupted.append, steps=6).run()
    resumed: list[dict[str, Any]] = []
    stopping = training(placement=placement, checkpoints=tmp_path, log=resumed.append, steps=6)
    stopping.stop = lambda: len(resumed) >= 3
    assert stopping.run()["stopped"]
    again: list[dict[str, Any]] = []
    training(placement=placement, checkpoints=tmp_path, log=again.append, steps=6).run()
    losses = [[r["train/loss"] for r in records if "train/loss" in r] for records in (uninterrupted, again)]
    assert 0 < len(losses[1]) < 6 and losses[1] == losses[0][-len(losses[1]) :]


def test_nothing_of_it_has_batch_statistics() -> None:
    assert batch_statistics(training().objective.network) is None


def test_grids_and_networks_that_are_no_encoders_of_images_are_refused() -> None:
    section = ObjectiveConfig(name="simclr")
    grid = NetworkConfig(architecture="conv", config={**tiny.CONTRASTIVE.config, "latent": "grid"})
    assert ("network.config.latent", "simclr compares whole images; set it to vector") in problems(
        section, {"model": grid}
    )
    assert [path for path, _ in problems(section, {"model": NetworkConfig()})] == ["network.architecture"]
