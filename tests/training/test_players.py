"""Several networks: whose turn it is, what stays as it is, own optimizers, and faults of state that others had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data_prep.errors import UserError
from tests.training import tiny_players as tiny
from tests.training.group import in_group
from tests.training.tiny_players import Contrastive, Game, Noisy
from training.config import PlacementConfig, TrainConfig
from training.distributed import Worker
from training.engines import checkpoint_state
from training.engines.plain import FrozenEngine, PlainEngine


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
    ],
    ids=["momentum", "rmsprop", "adamw", "amsgrad", "nadam"],
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
