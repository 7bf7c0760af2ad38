"""What an engine does to weights: decay, clipping, the rate, and nothing where a gradient is not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data_prep.opening.files import UnfitError
from training.config import TrainConfig
from training.distributed import Worker
from training.engines import checkpoint_state, plain
from training.engines.plain import FrozenEngine, PlainEngine, parameter_groups


def engine(**train: Any) -> PlainEngine:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    return PlainEngine(network, TrainConfig.model_validate({"steps": 9, **train}), Worker())


def test_matrices_decay_and_vectors_do_not() -> None:
    network = engine().module
    network[2].bias.requires_grad_(False)  # type: ignore[index]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = [
        ([names[id(p)] for p in group["params"]], group["weight_decay"]) for group in parameter_groups(network, 0.3)
    ]
    assert groups == [(["0.weight", "2.weight"], 0.3), (["1.weight", "1.bias"], 0.0)]
    (only,) = parameter_groups(nn.Linear(3, 2, bias=False), 0.3)
    assert only["weight_decay"] == 0.3


def test_parameters_learn_at_their_share_of_the_rate() -> None:
    network: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network.rate_shares = {"0.weight": 0.25, "0.bias": 0.25}
    groups = [
        (len(group["params"]), group["weight_decay"], group["rate_share"]) for group in parameter_groups(network, 0.3)
    ]
    assert groups == [(1, 0.3, 0.25), (1, 0.3, 1.0), (1, 0.0, 0.25), (1, 0.0, 1.0)]
    config = TrainConfig.model_validate({"steps": 9, "optimizer": "sgd", "lr": 1.0, "weight_decay": 0.0, "clip": 0.0})
    trained = PlainEngine(network, config, Worker())
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    trained.backward(sum(p.sum() for p in network.parameters()))  # type: ignore[arg-type]
    trained.step(0.5)
    for name, parameter in network.named_parameters():
        moved = 0.125 if name.startswith("0") else 0.5
        torch.testing.assert_close(parameter.detach(), before[name] - moved, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_without_a_gradient_weights_shrink_by_rate_times_decay(optimizer: str) -> None:
    trained = engine(optimizer=optimizer, weight_decay=0.5, lr=1.0)
    before = {name: p.detach().clone() for name, p in trained.module.named_parameters()}
    trained.backward(sum(p.sum() for p in trained.module.parameters()) * 0.0)  # type: ignore[arg-type]
    assert trained.step(0.1) == 0
    for name, parameter in trained.module.named_parameters():
        factor = 0.95 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


def test_the_optimizer_is_the_one_asked_for() -> None:
    settings = engine(betas=(0.8, 0.95), eps=1e-4, lr=0.25).optimizer.defaults
    assert (settings["betas"], settings["eps"], settings["lr"]) == ((0.8, 0.95), 1e-4, 0.25)


def test_adafactor_takes_steps_relative_to_a_parameters_size() -> None:
    """Shazeer & Stern 2018, algorithms 4 and 5: at the first step its moments are those of the gradient alone."""
    trained = engine(optimizer="adafactor", clip=0.0, weight_decay=0.0)
    weight, bias = trained.module[2].weight, trained.module[2].bias  # type: ignore[index]
    before, vector = weight.detach().clone(), bias.detach().clone()
    slope = torch.linspace(-2, 3, 12).view(3, 4)
    trained.backward((weight * slope).sum() + 3 * bias.sum())
    trained.step(0.01)
    squares = slope.square()
    moments = squares.mean(1, keepdim=True) * squares.mean(0, keepdim=True) / squares.mean()
    update = slope / moments.sqrt()
    update /= max(1.0, update.square().mean().sqrt())
    torch.testing.assert_close(weight.detach(), before - 0.01 * before.square().mean().sqrt() * update)
    size = max(float(vector.square().mean().sqrt()), 1e-3)
    torch.testing.assert_close(bias.detach(), vector - 0.01 * size)
    kept = {name: list(value.shape) for name, value in trained.optimizer.state[weight].items()}
    assert kept == {"step": [], "row_var": [3, 1], "col_var": [1, 4]}
    assert trained.bytes_held()["optimizer"] < 2 * trained.bytes_held()["parameters"]


@pytest.mark.parametrize(("clip", "share"), [(2.0, 0.5), (4.0, 1.0), (8.0, 1.0), (0.0, 1.0)])
def test_long_gradients_are_cut_and_their_norm_is_told(clip: float, share: float) -> None:
    trained = engine(optimizer="sgd", clip=clip, weight_decay=0.0)
    bias = trained.module[2].bias  # type: ignore[index]
    before = bias.detach().clone()
    slope = torch.tensor([0.0, 2.4, 3.2])  # of length 4
    trained.backward((bias * slope).sum())
    assert trained.step(0.5) == pytest.approx(4)
    torch.testing.assert_close(bias.detach(), before - 0.5 * share * slope)
    assert all(parameter.grad is None for parameter in trained.module.parameters()), "nothing is left for the next step"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(value: float) -> None:
    trained, spared = engine(), engine()
    x = torch.arange(5)
    for both in (trained, spared):
        both.backward(both.module(x).square().sum())
        both.step(0.1)
    trained.backward(trained.module(x).sum() * value)
    assert not torch.isfinite(torch.tensor(trained.step(0.1)))
    for both in (trained, spared):
        both.backward(both.module(x).square().sum())
        both.step(0.1)
    for parameter, other in zip(trained.module.parameters(), spared.module.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_gradients_are_summed_once_each_whatever_the_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def of_two_workers(flat: torch.Tensor) -> None:
        sizes.append(flat.numel())
        flat.mul_(2)

    monkeypatch.setattr(plain.dist, "all_reduce", of_two_workers)
    monkeypatch.setattr(plain, "SUM_BUCKET", 6)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (4, 3, 8, 2)]
    for number, parameter in enumerate(parameters[:3], 1):
        parameter.grad = torch.full_like(parameter, number)
    plain._sum_gradients(parameters)
    assert [parameter.grad.unique().tolist() for parameter in parameters] == [[2], [4], [6], [0]]  # type: ignore[union-attr]
    assert sizes == [7, 8, 2]


def test_a_network_that_nobody_trains_is_kept_with_its_buffers(tmp_path: Path) -> None:
    kept, other = (nn.BatchNorm1d(3).requires_grad_(False) for _ in range(2))
    for tensor in kept.state_dict().values():
        tensor.fill_(5)
    checkpoint_state.write(FrozenEngine(kept, Worker()), tmp_path, 0)
    checkpoint_state.restore(FrozenEngine(other, Worker()), tmp_path)
    assert all((tensor == 5).all() for tensor in other.state_dict().values())


def test_weights_of_any_layout_come_back_and_missing_ones_are_named(tmp_path: Path) -> None:
    def lone(network: nn.Module) -> PlainEngine:
        return PlainEngine(network, TrainConfig(steps=9), Worker())

    kept, other = (nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    checkpoint_state.write(lone(kept), tmp_path, 0)
    checkpoint_state.restore(lone(other), tmp_path)
    assert not other.weight.is_contiguous() and torch.equal(other.weight, kept.weight)
    with pytest.raises(UnfitError, match=r"54 of 72 elements of weight's weight from 0 on"):
        checkpoint_state.restore(lone(nn.Conv2d(2, 4, 3)), tmp_path)
    with pytest.raises(UnfitError, match=r"0 of 18 elements of 0\.weight's weight from 0 on"):
        checkpoint_state.restore(lone(nn.Sequential(nn.Linear(6, 3))), tmp_path)
