"""The loop learns, gives the same mean however a batch is cut, and goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import UserError
from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig
from training.distributed import Worker


def test_the_golden_loss_curve() -> None:
    assert tiny.losses(dropout=0.0) == pytest.approx(tiny.GOLDEN, abs=2e-4)


def test_loss_falls_and_every_weight_moves() -> None:
    records: list[dict[str, Any]] = []
    training = tiny.training(steps=200, lr=1e-2, dropout=0.0, log=records.append)
    network = training.objective.networks()["model"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    summary = training.run()
    losses = [record["train/mlm"] for record in records if "train/mlm" in record]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    still = [n for n, p in network.named_parameters() if torch.equal(p, before[n])]
    assert still == []
    assert summary["validation/mlm"] < losses[0]
    assert all(record["train/grad_norm"] > 0 for record in records if "train/grad_norm" in record)


@pytest.mark.parametrize("micro_batch", [1, 5, 7, 23, 24, 100])
def test_the_mean_does_not_depend_on_micro_batches(micro_batch: int) -> None:
    expected = tiny.losses(dropout=0.0, steps=4)
    cut = tiny.losses(dropout=0.0, steps=4, placement=PlacementConfig(micro_batch=micro_batch))
    assert cut == pytest.approx(expected, abs=3e-6)


def test_recomputed_activations_change_nothing() -> None:
    again = tiny.losses(steps=4, placement=PlacementConfig(activation_checkpointing=True))
    assert again == pytest.approx(tiny.losses(steps=4), abs=1e-6)  # dropout is drawn alike both times


def test_bf16_follows_fp32() -> None:
    assert tiny.losses(steps=8, precision="bf16") == pytest.approx(tiny.losses(steps=8), abs=5e-3)


@pytest.mark.parametrize(("zero", "optimizer"), [(None, "adamw"), (2, "adamw"), (None, "adafactor")])
def test_resume_is_bit_equal(tmp_path: Path, zero: int | None, optimizer: str) -> None:
    placement = PlacementConfig(zero=zero, checkpoint_every=5)  # type: ignore[arg-type]
    options: dict[str, Any] = {"placement": placement, "optimizer": optimizer}
    uninterrupted = tiny.losses(**options)
    first: list[dict[str, Any]] = []
    stopping = _Stop(at=8, records=first)
    with pytest.raises(_StopError):
        tiny.training(**options, checkpoints=tmp_path, log=stopping).run()
    rest: list[dict[str, Any]] = []
    summary = tiny.training(**options, checkpoints=tmp_path, log=rest.append).run()
    assert summary["resumed_from"] == 5
    assert [r["train/loss"] for r in first if "train/loss" in r] == uninterrupted[:8]
    assert [r["train/loss"] for r in rest if "train/loss" in r] == uninterrupted[5:]


def test_evaluation_is_the_same_on_any_number_of_workers() -> None:
    alone = tiny.training().evaluate()
    together = in_group(3, _evaluate)
    assert alone.keys() == together[0].keys() and len(alone) == 5
    for result in together:
        assert result == pytest.approx(alone, abs=1e-6)


def _evaluate(worker: Worker) -> dict[str, float]:
    return tiny.training(worker, placement=PlacementConfig(workers=3)).evaluate()


def test_training_goes_on_as_long_as_it_is_told_and_is_the_same_so_far(tmp_path: Path) -> None:
    asked: list[tuple[int, bool]] = []

    def goes_on(step: int) -> bool:
        asked.append((step, training.objective.networks()["model"].training))
        torch.rand(3)
        return step < 6

    records: list[dict[str, Any]] = []
    training = tiny.training(evaluate_every=3, checkpoints=tmp_path, log=records.append)
    training.goes_on = goes_on
    summary = training.run()
    assert asked == [(3, False), (6, False)] and (summary["step"], summary["stopped"]) == (6, True)
    assert [record["step"] for record in records if "validation/loss" in record] == [3, 6]
    assert [record["train/loss"] for record in records if "train/loss" in record] == tiny.losses()[:6]
    assert tiny.training(checkpoints=tmp_path).run()["resumed_from"] == 6


def test_too_few_rows_for_the_workers_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.global_batch: 24 rows .* without a row"):
        tiny.training(Worker(0, 32), placement=PlacementConfig(workers=32))


def test_an_unknown_option_of_the_objective_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.options\.sentence: found 'next'; .*'none', 'nsp' or 'sop'"):
        tiny.training(sentence="next")


class _StopError(Exception):
    pass


class _Stop:
    """Raises after `at` steps, as a lost machine would."""

    def __init__(self, at: int, records: list[dict[str, Any]], every_rank: Worker | None = None) -> None:
        self.at = at
        self.records = records
        self.steps = 0

    def __call__(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        if record["step"] == self.at:
            raise _StopError

    def count(self, step: int, steps: int) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise _StopError
