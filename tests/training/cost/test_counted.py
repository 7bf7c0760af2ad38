"""What a step on tables or pictures needs, counted, against what it is."""

from __future__ import annotations

from statistics import median

import pytest
import torch

from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.warp import AugmentConfig
from tests.training.tiny_arrays import CONV, MLP, WIDTH
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig
from training.cost.counted import ArrayCost, _Live, array_cost
from training.cost.memory import ARRAY_PROCESS, Memory, array_memory
from training.cost.step_benchmark import ArrayTrial, measure

PLAIN = ObjectiveConfig(name="autoencoder")
WIDE = NetworkConfig(
    architecture="conv", config={"hidden": [64, 64], "bottleneck": 32, "latent": "grid", "output": "sigmoid"}
)


def test_tensors_are_counted_while_they_live() -> None:
    given = torch.ones(1000)
    with _Live() as live:
        first = given + 1
        second = first.exp()
        assert live.peak == 8000
        del first
        second.mul_(2)
        second.view(10, 100)
        third = second + 1
        assert live.peak == 8000, "of those that live at once, neither views nor what is done in place"
        fourth = third + given
    assert live.peak == 12_000 and len(fourth) == 1000


def test_every_parameter_is_counted() -> None:
    cost = array_cost(PLAIN, MLP, (WIDTH,), 8, "fp32")
    sizes = [(WIDTH, 24), (24, 3), (3, 24), (24, WIDTH)]
    assert cost.parameters == sum(a * b + b for a, b in sizes)
    assert cost.row_flops == 3 * 2 * sum(a * b for a, b in sizes)


@pytest.mark.parametrize("name", ["autoencoder", "vae", "discrete", "compression"])
def test_activations_grow_with_the_rows(name: str) -> None:
    network, shape = (CONV, (1, 9, 7)) if name != "compression" else (WIDE, (3, 16, 16))
    objective = ObjectiveConfig(name=name, options={"codes": "binary"} if name == "discrete" else {})
    if name == "compression":
        network = NetworkConfig(architecture="conv", config={"hidden": [8, 16], "bottleneck": 16, "latent": "grid"})
    costs = [array_cost(objective, network, shape, rows, "fp32") for rows in (256, 512)]
    assert 1.7 < costs[1].activations / costs[0].activations < 2.2
    assert costs[0].activations > 256 * 4 * shape[1] * shape[2]


def test_many_rows_are_counted_on_fewer() -> None:
    counted = array_cost(PLAIN, MLP, (WIDTH,), 1 << 16, "fp32").activations
    more = array_cost(PLAIN, MLP, (WIDTH,), 1 << 18, "fp32").activations
    assert more == pytest.approx(4 * counted, rel=0.05)


def test_states_are_divided_and_gradient_descent_has_no_moments() -> None:
    cost = ArrayCost(parameters=1_000_000, row_flops=0.0, activations=5e6)
    base = ARRAY_PROCESS["worker"]

    def of(optimizer: str = "adamw", peak: float | None = base + 30e6, **placement: object) -> Memory:
        return array_memory(cost, PlacementConfig.model_validate(placement), optimizer, False, "flow", peak, 0.5)

    assert of().process == ARRAY_PROCESS["flow"]
    assert (of().weights, of().gradients, of().moments) == (4e6, 4e6, 8e6)
    assert of().activations == 2 * (30e6 - 16e6), "tried on half of the rows"
    assert of("sgd").moments == 0 and of("sgd").activations == 2 * (30e6 - 8e6)
    assert of(workers=2, zero=1).moments == 4e6 and of(workers=2, zero=2).gradients == 2e6
    gpu = of(peak=None)
    assert gpu.process == 0 and gpu.activations == pytest.approx(1.1 * 5e6) and gpu.weights == pytest.approx(1.1 * 4e6)


@pytest.mark.slow
def test_more_rows_need_as_much_more_memory() -> None:
    """A trial of some rows tells what four times as many need. Peaks of one work differ by a fifth: medians."""

    def tried(rows: int) -> float:
        return median(once(rows) for _ in range(5))

    def once(rows: int) -> int:
        return measure(
            ArrayTrial(
                network=WIDE,
                objective=PLAIN,
                shape=[3, 64, 64],
                rows=256,
                order=OrderConfig(),
                augment=AugmentConfig(),
                corruption=NoneConfig(kind="none"),
                optimizer="adamw",
                log_every=10,
                batch=rows,
                steps=5,
                precision="fp32",
                placement=PlacementConfig(threads=1),
            )
        )[0].peak_bytes

    cost = array_cost(PLAIN, WIDE, (3, 64, 64), 256, "fp32")
    predicted = array_memory(cost, PlacementConfig(), "adamw", False, "worker", int(tried(64)), 0.25).total
    assert predicted == pytest.approx(tried(256), rel=0.2)
