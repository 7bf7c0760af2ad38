"""Restricted Boltzmann machines against ones small enough to enumerate, and the unrolled network against the stack."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_arrays as tiny
from training.models.autoencoders import rbm as boltzmann
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.rbm import BoltzmannMachine, stack, unroll
from training.objectives.arrays.autoencoder import AutoencoderOptions

VISIBLE, HIDDEN = 5, 4


def machine(visible: str = "bernoulli", hidden: str = "bernoulli", scale: float = 0.8) -> BoltzmannMachine:
    torch.manual_seed(0)
    rbm = BoltzmannMachine(VISIBLE, HIDDEN, visible, hidden)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return rbm


def states(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)))


def log_partition(rbm: BoltzmannMachine) -> torch.Tensor:
    return torch.logsumexp(-rbm.free_energy(states(VISIBLE)), 0)


def log_likelihood(rbm: BoltzmannMachine, v: torch.Tensor) -> torch.Tensor:
    return (-rbm.free_energy(v)).mean() - log_partition(rbm)


def energy(rbm: BoltzmannMachine, v: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """By the definition, of every pair: [V, H]."""
    pairs = -(v @ rbm.weight @ h.T)
    if rbm.visible_units == "bernoulli":
        own = -(v @ rbm.visible_bias)
    else:
        own = 0.5 * (v - rbm.visible_bias).square().sum(1)
    if rbm.hidden_units == "bernoulli":
        return pairs + own[:, None] - h @ rbm.hidden_bias
    return pairs + own[:, None] + 0.5 * (h - rbm.hidden_bias).square().sum(1)


def data() -> torch.Tensor:
    """Rows in which units 0 and 1 agree and unit 2 is their opposite."""
    random = np.random.default_rng(0)
    first = random.integers(0, 2, 400)
    rows = np.stack([first, first, 1 - first, random.integers(0, 2, 400), np.ones(400)], 1)
    flips = random.random(rows.shape) < 0.05
    return torch.from_numpy(np.where(flips, 1 - rows, rows)).float()


@torch.no_grad()
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_the_free_energy_sums_out_the_hidden_units(visible: str) -> None:
    rbm = machine(visible)
    v = states(VISIBLE) if visible == "bernoulli" else torch.randn(20, VISIBLE)
    expected = -torch.logsumexp(-energy(rbm, v, states(HIDDEN)), 1)
    torch.testing.assert_close(rbm.free_energy(v), expected)
    posterior = torch.softmax(-energy(rbm, v, states(HIDDEN)), 1)
    torch.testing.assert_close(rbm.hidden_mean(v), posterior @ states(HIDDEN))


@torch.no_grad()
def test_the_free_energy_integrates_out_gaussian_hidden_units() -> None:
    torch.manual_seed(0)
    rbm = BoltzmannMachine(3, 1, "bernoulli", "gaussian")
    for parameter in rbm.parameters():
        parameter.copy_(torch.randn_like(parameter))
    line = torch.linspace(-12, 12, 4001)[:, None]
    v = states(3)
    logs = -energy(rbm, v, line)
    integral = torch.logsumexp(logs, 1) + math.log(24 / 4000)
    difference = rbm.free_energy(v) + integral
    torch.testing.assert_close(difference, difference[0].expand(8), rtol=0, atol=1e-4)  # the same but for a constant
    mean = (torch.softmax(logs, 1) @ line).squeeze(1)
    torch.testing.assert_close(rbm.hidden_mean(v).squeeze(1), mean, rtol=0, atol=1e-4)


@torch.no_grad()
def test_means_of_visible_units_are_those_of_the_energy() -> None:
    rbm, h = machine(), states(HIDDEN)
    posterior = torch.softmax(-energy(rbm, states(VISIBLE), h), 0)
    torch.testing.assert_close(rbm.visible_mean(h), posterior.T @ states(VISIBLE))
    gaussian = machine("gaussian")
    mode = gaussian.visible_mean(h)
    for step in 0.1 * torch.eye(VISIBLE):
        least = energy(gaussian, mode, h).diagonal()
        assert (energy(gaussian, mode + step, h).diagonal() > least).all()


@torch.no_grad()
def test_gibbs_sampling_reaches_the_models_distribution() -> None:
    rbm = machine()
    torch.manual_seed(1)
    sampled = rbm.chain(torch.rand(20_000, VISIBLE).round(), 30)
    number = (sampled @ (2.0 ** torch.arange(VISIBLE))).long()
    every = states(VISIBLE)
    exact = torch.softmax(-rbm.free_energy(every), 0)
    frequencies = torch.bincount(number, minlength=32)[(every @ (2.0 ** torch.arange(VISIBLE))).long()] / 20_000
    assert float((frequencies - exact).abs().max()) < 0.012


def test_a_long_chain_gives_the_exact_gradient() -> None:
    rbm, v = machine(), data()
    exact = torch.autograd.grad(-log_likelihood(rbm, v), list(rbm.parameters()))
    torch.manual_seed(2)
    with torch.no_grad():
        model = rbm.chain(v.repeat(100, 1), 40)
    contrast = rbm.free_energy(v).mean() - rbm.free_energy(model).mean()
    gradients = torch.autograd.grad(contrast, list(rbm.parameters()))
    for gradient, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=0.012)
    assert max(float(g.abs().max()) for g in exact) > 0.2


def test_the_gradient_is_the_difference_of_two_correlations() -> None:
    rbm, v = machine(), data()[:50]
    torch.manual_seed(3)
    by_row = rbm(v, 1)
    gradient = torch.autograd.grad(by_row["contrast"].sum(), [rbm.weight, rbm.visible_bias, rbm.hidden_bias])
    with torch.no_grad():
        torch.manual_seed(3)
        model = rbm.visible_mean(rbm.sample_hidden(v))
        first, second = rbm.hidden_mean(v), rbm.hidden_mean(model)
        torch.testing.assert_close(gradient[0], -(v.T @ first - model.T @ second), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient[1], -(v - model).sum(0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient[2], -(first - second).sum(0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(by_row["squared-error"], (v - model).square().sum(1))


@pytest.mark.parametrize("steps", [1, 5])
def test_contrastive_divergence_raises_the_exact_likelihood(steps: int) -> None:
    rbm, v = machine(scale=0.01), data()
    before = float(log_likelihood(rbm, v).detach())
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.2)
    torch.manual_seed(4)
    for _ in range(400):
        optimizer.zero_grad()
        rbm(v, steps)["contrast"].mean().backward()
        optimizer.step()
    after = float(log_likelihood(rbm, v).detach())
    assert before == pytest.approx(-5 * math.log(2), abs=0.02)
    counts = torch.bincount((v @ (2.0 ** torch.arange(VISIBLE))).long(), minlength=32) / len(v)
    best = float(-torch.special.entr(counts).sum())
    assert before + 0.6 * (best - before) < after < best


def test_the_unrolled_network_passes_means_up_and_down_the_stack() -> None:
    torch.manual_seed(0)
    machines = stack([12, 9, 6, 2], "bernoulli")
    assert [(m.visible_units, m.hidden_units) for m in machines] == [
        ("bernoulli", "bernoulli"), ("bernoulli", "bernoulli"), ("bernoulli", "gaussian"),
    ]  # fmt: skip
    config = AutoencoderConfig(architecture="mlp", hidden=[9, 6], bottleneck=2, activation="sigmoid", output="sigmoid")
    model = Autoencoder(config, (1, 3, 4), AutoencoderOptions())
    with torch.no_grad():
        for layer, rbm in enumerate(machines):
            for parameter in rbm.parameters():
                parameter.copy_(torch.randn_like(parameter))
            unroll(rbm, layer, model)
        x = up = torch.rand(5, 1, 3, 4)
        up = up.flatten(1)
        for rbm in machines:
            up = rbm.hidden_mean(up)
        torch.testing.assert_close(model.encode(x), up)
        for rbm in reversed(machines):
            up = rbm.visible_mean(up)
        torch.testing.assert_close(model(x).flatten(1), up)


def test_phases_train_one_machine_each_and_then_the_whole() -> None:
    training = tiny.training("rbm", steps=12)
    objective: Any = training.objective
    assert [(p.name, p.steps) for p in objective.phases(12)] == [
        ("rbm-1", 2), ("rbm-2", 2), ("rbm-3", 2), ("fine-tuning", 6),
    ]  # fmt: skip
    moved: list[set[str]] = []
    networks = objective.networks()
    last = {name: _weights(network) for name, network in networks.items()}
    after_step = objective.after_step

    def watch(step: int, steps: int) -> None:
        after_step(step, steps)
        now = {name: _weights(network) for name, network in networks.items()}
        moved.append({name for name in now if not torch.equal(now[name], last[name])})
        last.update(now)

    objective.after_step = watch
    training.run()
    assert moved == [{f"rbm-{n}", "model"} for n in (1, 1, 2, 2, 3, 3)] + [{"model"}] * 6


def _weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def test_evaluation_shows_what_the_machines_have_learned_so_far() -> None:
    training = tiny.training("rbm", steps=12)
    objective: Any = training.objective
    rows = torch.from_numpy(tiny.vectors(70, seed=1))
    training.run()
    machines = list(objective.machines.values())
    for layer, rbm in enumerate(machines):
        unroll(rbm, layer, objective.model)  # as at the end of the last machine's phase
    with torch.no_grad():
        up = rows
        for rbm in machines:
            up = rbm(up)
        for rbm in reversed(machines):
            up = rbm.visible_mean(up)
    assert training.evaluate()["validation/squared-error"] == pytest.approx(
        float((up - rows).square().mean()), rel=1e-4
    )


def test_an_output_without_bounds_asks_for_gaussian_visible_units() -> None:
    network = tiny.NetworkConfig(
        architecture="mlp", config={"hidden": [8], "bottleneck": 2, "activation": "sigmoid", "output": "linear"}
    )
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 2)).astype(np.float32) @ random.normal(size=(2, 6)).astype(np.float32)
    training = tiny.training("rbm", network=network, rows=rows / rows.std(0), steps=400, lr=2e-2, log_every=100)
    objective: Any = training.objective
    assert [m.visible_units for m in objective.machines.values()] == ["gaussian", "bernoulli"]
    before = training.evaluate()["validation/squared-error"]
    training.run()
    assert training.evaluate()["validation/squared-error"] < 0.5 * before
    torch.manual_seed(0)
    noise = boltzmann._draw(torch.zeros(20_000), "gaussian")
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_contrastive_divergence_takes_as_many_gibbs_steps_as_asked(steps: int) -> None:
    rbm, v = machine(), data()[:50]
    torch.manual_seed(3)
    by_row = rbm(v, steps)
    (gradient,) = torch.autograd.grad(by_row["contrast"].sum(), [rbm.visible_bias])
    torch.manual_seed(3)
    with torch.no_grad():
        first = model = rbm.visible_mean(rbm.sample_hidden(v))
        if steps > 1:
            model = v
            for number in range(1, steps + 1):
                h = rbm.sample_hidden(model)
                model = rbm.visible_mean(h) if number == steps else rbm.sample_visible(h)
    torch.testing.assert_close(gradient, -(v - model).sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_row["squared-error"], (v - first).square().sum(1))


def test_machines_learn_from_what_is_seen_and_from_the_means_of_those_below() -> None:
    training = tiny.training("rbm", steps=12, options={"gibbs_steps": 3})
    objective: Any = training.objective
    clean = torch.from_numpy(tiny.vectors(6))
    batch = {"input": clean, "seen": clean.flip(0) * 0.5}
    given: list[tuple[torch.Tensor, int]] = []

    def spy(v: torch.Tensor, steps: int) -> dict[str, torch.Tensor]:
        given.append((v, steps))
        return {"contrast": torch.zeros(len(v)), "squared-error": torch.ones(len(v))}

    for player, below in (("rbm-1", []), ("rbm-2", ["rbm-1"]), ("rbm-3", ["rbm-1", "rbm-2"])):
        (turn,) = objective.turns(player, 0)
        loss = turn.loss({**objective.networks(), player: spy}, batch)
        with torch.no_grad():
            wanted = batch["seen"]
            for name in below:
                wanted = objective.machines[name].hidden_mean(wanted)
        values, steps = given.pop()
        assert torch.equal(values, wanted) and steps == 3
        assert loss.metrics[f"{player}-squared-error"][1] == wanted.numel()
