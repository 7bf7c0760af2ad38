"""Several networks: whose turn it is, what stays as it is, own optimizers, and faults of state that others had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.errors import UserError
from data_prep.rng import key
from tests.training import tiny_players as tiny
from tests.training.group import in_group
from tests.training.tiny_players import Contrastive, Game, Noisy
from training import loop
from training.config import PlacementConfig, TrainConfig
from training.distributed import Worker
from training.engines import checkpoint, checkpoint_state
from training.engines.plain import FrozenEngine, PlainEngine
from training.inference import opening
from training.objective import Loss, Turn, WholeBatchTurn


def test_what_was_frozen_stays_frozen() -> None:
    game = tiny.seeded(Game)
    before = {name: p.clone() for name, p in game.first.named_parameters()}
    training = tiny.training(game)
    training.run()
    assert isinstance(training.engines["still"], FrozenEngine)
    assert [p.requires_grad for p in game.first.parameters()] == [False, False, True, True]
    assert [torch.equal(p, before[name]) for name, p in game.first.named_parameters()] == [True, True, False, False]
    assert not any(p.requires_grad for p in game.still.parameters())
    assert game.prepared >= 8


@pytest.mark.parametrize("zero", [None, 0, 2])
def test_a_game_resumes_bit_equal(tmp_path: Path, zero: Any) -> None:
    """With the weights of the network that nobody plays, which `after_step` changes."""
    placement = PlacementConfig(checkpoint_every=3, zero=zero)
    uninterrupted = tiny.losses(Game, placement=placement)
    records: list[Any] = []
    stopping = tiny.training(tiny.seeded(Game), placement=placement, checkpoints=tmp_path, log=records.append)
    stopping.stop = lambda: len(records) >= 4
    stopping.run()
    resumed = tiny.losses(Game, placement=placement, checkpoints=tmp_path)
    assert resumed == uninterrupted[-len(resumed) :] and 0 < len(resumed) < len(uninterrupted)


def _game(worker: Worker) -> list[float]:
    return tiny.losses(Game, worker, placement=PlacementConfig(workers=worker.world, micro_batch=5))


def test_a_game_is_the_same_on_two_workers() -> None:
    assert in_group(2, _game)[0] == pytest.approx(tiny.losses(Game), abs=1e-5)


def test_players_have_their_own_optimizers() -> None:
    players = {"second": {"lr": 0.5, "optimizer": "sgd", "clip": 0.0}, "first": {"betas": (0.5, 0.9)}}
    training = tiny.training(tiny.seeded(Game), players=players)
    first, second = training.engines["first"], training.engines["second"]
    assert isinstance(first, PlainEngine) and isinstance(second, PlainEngine)
    assert isinstance(second.optimizer, torch.optim.SGD) and second.clip == 0
    assert first.optimizer.defaults["betas"] == (0.5, 0.9) and first.clip == training.config.clip
    training.run()
    assert second.optimizer.param_groups[0]["lr"] > 10 * first.optimizer.param_groups[0]["lr"]
    same = tiny.losses(Game, players={"first": {"lr": 1e-2}})
    assert same == tiny.losses(Game)
    with pytest.raises(UserError, match=r"train\.players\.third: .*; it has first, second, still\."):
        tiny.training(tiny.seeded(Game), players={"third": {}})
    with pytest.raises(UserError, match=r"train\.players\.second\.optimizer: sgd .* placement\.zero to null"):
        tiny.training(tiny.seeded(Game), players=players, placement=PlacementConfig(zero=1))


def test_what_evaluation_samples_is_keyed() -> None:
    training = tiny.training(tiny.seeded(Noisy))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = training.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert training.evaluate() == first
    assert tiny.losses(Noisy, evaluate_every=2) == tiny.losses(Noisy)


def _with_norm(worker: Worker) -> str:
    try:
        tiny.training(tiny.seeded(Contrastive, norm=True), worker, placement=PlacementConfig(workers=2))
    except UserError as error:
        return str(error)
    return ""


def test_batch_statistics_of_a_part_are_refused(tmp_path: Path) -> None:
    message = "BatchNorm1d 1 of 'model' computes statistics of a batch"
    assert all(message in text and "placement.workers to 1" in text for text in in_group(2, _with_norm))
    with pytest.raises(UserError, match=r"placement\.micro_batch to null"):
        tiny.training(tiny.seeded(Contrastive, norm=True), placement=PlacementConfig(micro_batch=5))
    placement = PlacementConfig(checkpoint_every=3)
    options: dict[str, Any] = {"options": {"norm": True}, "placement": placement}
    uninterrupted = tiny.losses(Contrastive, **options)
    records: list[Any] = []
    stopping = tiny.training(
        tiny.seeded(Contrastive, norm=True), placement=placement, checkpoints=tmp_path, log=records.append
    )
    stopping.stop = lambda: len(records) >= 4
    stopping.run()
    resumed = tiny.losses(Contrastive, **options, checkpoints=tmp_path)
    assert resumed == uninterrupted[-len(resumed) :] and 0 < len(resumed) < len(uninterrupted)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
        lambda p: torch.optim.NAdam(p, lr=0.01),
        lambda p: torch.optim.Adafactor(p, lr=0.01),
    ],
    ids=["momentum", "rmsprop", "adamw", "amsgrad", "nadam", "adafactor"],
)
def test_the_state_of_any_optimizer_is_kept(tmp_path: Path, make: Any) -> None:
    def engine() -> PlainEngine:
        torch.manual_seed(0)
        plain = PlainEngine(nn.Linear(5, 3), TrainConfig(steps=9), Worker())
        plain.optimizer = make(plain.module.parameters())
        return plain

    def step(of: PlainEngine, number: int) -> None:
        x = torch.linspace(-1, 1, 20).view(4, 5) * (number + 1)
        of.backward(of.module(x).square().mean())
        of.step(0.05)

    trained, other = engine(), engine()
    for number in range(3):
        step(trained, number)
    checkpoint_state.write(trained, tmp_path, 0)
    checkpoint_state.restore(other, tmp_path)
    for number in range(3, 6):
        step(trained, number)
        step(other, number)
    assert all(torch.equal(a, b) for a, b in zip(trained.module.parameters(), other.module.parameters(), strict=True))


class Drawing(Noisy):
    """Notes the first number that its loss draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn_first: list[float] = []

    def turns(self, phase: str, step: int) -> Any:
        (turn,) = super().turns(phase, step)

        def loss(networks: Any, batch: Any) -> Any:
            self.drawn_first.append(float(torch.rand(1)))
            return turn.loss(networks, batch)  # type: ignore[union-attr]

        return [Turn("model", turn.weights, loss)]  # type: ignore[union-attr]


def _drawn(worker: Worker, seed: int) -> tuple[list[float], list[float]]:
    objective = tiny.seeded(Drawing)
    placement = PlacementConfig(workers=worker.world, micro_batch=3)
    training = tiny.training(objective, worker, placement=placement, steps=3)
    training.seed = seed
    training.evaluate()
    evaluated, objective.drawn_first = objective.drawn_first, []
    training.run()
    return evaluated, objective.drawn_first[: 3 * training.split.num_parts]


def test_what_networks_draw_is_another_thing_for_every_step_rank_micro_batch_and_seed() -> None:
    results = [_drawn(Worker(), 7), *in_group(2, _drawn, 7), *in_group(2, _drawn, 8)]
    lone, first, second, *_ = results
    evaluated, trained = ([number for result in results[1:] for number in result[part]] for part in (0, 1))
    assert len(evaluated) == len(set(evaluated)) == 4 * 2 * 4, "two held-out batches in four parts"
    assert len(trained) == len(set(trained)) == 4 * 3 * 4
    assert lone[1][0] == first[1][0] != second[1][0], "by rank, not by how many there are"
    assert _drawn(Worker(), 7) == lone


def _together(worker: Worker, folder: Path) -> tuple[int, bool, list[list[float]]]:
    """How far a run got of which the second worker is asked to stop, and what workers with 3 and 1 rows gather."""
    records: list[Any] = []
    placement = PlacementConfig(workers=worker.world)
    training = tiny.training(tiny.seeded(Noisy), worker, placement=placement, checkpoints=folder)
    step = training.objective.before_step
    training.objective.before_step = lambda *of: (records.append(of), step(*of))[1]  # type: ignore[method-assign]
    training.stop = lambda: worker.rank == 1 and len(records) == 3
    summary = training.run()
    counts = [3, 1]
    mine = torch.arange(6.0).view(3, 2)[: counts[worker.rank]] + 10 * worker.rank
    return summary["step"], summary["stopped"], torch.cat(worker.rows(mine, counts)).tolist()


def test_one_worker_that_is_asked_to_stop_stops_all_of_them(tmp_path: Path) -> None:
    results = in_group(2, _together, tmp_path)
    gathered = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [10.0, 11.0]]
    assert results == [(3, True, gathered)] * 2
    assert [kept.position.step for kept in checkpoint.committed(tmp_path)] == [3]


class Judging(Contrastive):
    """Its loss of the whole batch draws, too."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)
        self.drawn_whole: list[float] = []

    def turns(self, phase: str, step: int) -> Any:
        turn: Any = super().turns(phase, step)[0]

        def loss(features: Any) -> Any:
            self.drawn_whole.append(float(torch.rand(1)))
            return turn.loss(features)

        return [WholeBatchTurn("model", turn.features, loss)]  # type: ignore[union-attr]


def _judged(worker: Worker) -> list[float]:
    objective = tiny.seeded(Judging)
    tiny.training(objective, worker, placement=PlacementConfig(workers=worker.world), steps=3).run()
    return objective.drawn_whole[:3]


def test_a_loss_of_the_whole_batch_draws_the_same_on_every_worker() -> None:
    alone = _judged(Worker())
    assert in_group(2, _judged) == [alone, alone] and len(set(alone)) == 3


@pytest.mark.parametrize("exports", [True, False])
def test_what_is_exported_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: bool) -> None:
    objective, checked = tiny.seeded(Noisy), list[Any]()
    objective.export = lambda path, batches: checked.append(path)
    objective.exported = lambda: objective.network if exports else None
    monkeypatch.setattr(opening, "check_export", lambda *given: checked.append(given))
    tiny.training(objective).export(tmp_path)
    assert checked == [tmp_path, *([(tmp_path, objective.network)] * exports)]


class Watched(Noisy):
    """Notes in which mode its network runs, with gradients or without, and what it is to draw by."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[tuple[bool, bool]] = []
        self.keys: list[int] = []

    def drawn(self, rows: Any, draws: Any) -> Any:
        self.keys.append(draws.key)
        return rows

    def turns(self, phase: str, step: int) -> Any:
        (turn,) = super().turns(phase, step)

        def loss(networks: Any, batch: Any) -> Any:
            self.modes.append((self.network.training, torch.is_grad_enabled()))
            return turn.loss(networks, batch)  # type: ignore[union-attr]

        return [Turn("model", turn.weights, loss)]  # type: ignore[union-attr]


def test_networks_train_in_training_and_are_as_used_in_evaluation() -> None:
    """Also after an evaluation in between; and what is drawn for held-out rows is not what is drawn in training."""
    objective = tiny.seeded(Watched)
    training = tiny.training(objective, steps=4, evaluate_every=2)
    training.run()
    step, held_out = [(True, True)], [(False, False)] * 2
    assert objective.modes == [*step * 2, *held_out, *step * 2, *held_out]
    of_training = {key(tiny.SEED, "objective")}
    assert len(set(objective.keys)) == 2 and of_training < set(objective.keys)
    other = tiny.training(tiny.seeded(Watched))
    other.seed = tiny.SEED + 1
    other.evaluate()
    assert not set(other.objective.keys) & set(objective.keys)  # type: ignore[attr-defined]


class Faltering(Game):
    """The second player's loss is infinite in one step."""

    def __init__(self) -> None:
        super().__init__()
        self.updated: list[int] = []
        self.begun: list[tuple[int, int]] = []

    def turns(self, phase: str, step: int) -> Any:
        critic, maker = super().turns(phase, step)

        def infinite(networks: Any, batch: Any) -> Loss:
            return Loss({"distance": critic.loss(networks, batch).sums["distance"] * float("inf")})  # type: ignore[union-attr]

        return [Turn("second", critic.weights, infinite) if step == 2 else critic, maker]  # type: ignore[union-attr]

    def before_step(self, step: int, steps: int) -> None:
        self.begun.append((step, steps))

    def after_step(self, step: int, steps: int) -> None:
        self.updated.append(step)


def test_nothing_follows_a_step_that_was_skipped() -> None:
    game = tiny.seeded(Faltering)
    before = game.second.weight.clone()
    training = tiny.training(game, steps=5)
    training.run()
    assert game.updated == [0, 1, 3, 4]
    assert game.begun == [(step, 5) for step in range(5)], "also the one that is skipped"
    assert torch.isfinite(game.second.weight).all() and not torch.equal(game.second.weight, before)


def test_records_tell_the_rate_of_their_step_and_evaluations_come_when_they_are_due() -> None:
    records: list[dict[str, Any]] = []
    tiny.training(tiny.seeded(Noisy), log=records.append, warmup_steps=2, log_every=3, evaluate_every=4).run()
    rates = {record["step"]: record["train/lr"] for record in records if "train/lr" in record}
    assert rates == pytest.approx({3: 1e-2, 6: 1e-2 * 3 / 6, 8: 1e-2 * 1 / 6})
    assert [record["step"] for record in records if "validation/loss" in record] == [4, 8]


def test_export_is_given_the_first_samples_of_training_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "EXPORT_BATCH", 5)
    training = tiny.training(tiny.seeded(Noisy))
    batches = [batch["input"] for batch in training._first_samples(12)]
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat(batches), training._read(np.arange(12))[0]["input"])
