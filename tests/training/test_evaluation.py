"""Means over held-out rows: every row counts once, however rows are cut into batches, and what is told adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.training import tiny_players as tiny
from tests.training.tiny_arrays import WIDTH, vectors
from training.config import PlacementConfig
from training.objective import Loss, Phase, Turn, WholeBatchTurn

FIRST = vectors(35, 1)[:, 0].astype(np.float64)  # of the held-out rows, which are one batch of 24 and half of another


class Means(tiny.Arrays):
    """Its loss is the mean of the rows' first values, and half of it once more."""

    def __init__(self) -> None:
        self.network = nn.Linear(WIDTH, 1)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def turns(self, phase: str, step: int) -> Any:
        def weights(batch: Any) -> dict[str, float]:
            rows = float(len(batch["input"]))
            return {"first": rows, "half": 2 * rows}

        def loss(networks: Any, batch: Any) -> Loss:
            first = batch["input"][:, 0]
            return Loss({"first": first.sum(), "half": first.sum()}, {"square": (first.square().sum(), len(first))})

        return [Turn("model", weights, loss)]


class WholeMeans(Means):
    """The same of the whole batch."""

    def turns(self, phase: str, step: int) -> Any:
        def loss(features: Any) -> Loss:
            first = features["first"]
            return Loss(
                {"first": first.mean(), "half": first.mean() / 2}, {"square": (first.square().sum(), len(first))}
            )

        return [WholeBatchTurn("model", lambda networks, batch: {"first": batch["input"][:, 0]}, loss)]


@pytest.mark.parametrize("objective", [Means, WholeMeans])
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_every_held_out_row_counts_once(objective: Any, micro_batch: int | None) -> None:
    training = tiny.training(tiny.seeded(objective), placement=PlacementConfig(micro_batch=micro_batch))
    assert training.evaluate() == pytest.approx(
        {
            "validation/loss": 1.5 * FIRST.mean(),
            "validation/first": FIRST.mean(),
            "validation/half": FIRST.mean() / 2,
            "validation/square": (FIRST**2).mean(),
        },
        abs=1e-6,
    )


def test_evaluation_is_that_of_the_last_step() -> None:
    objective, asked = tiny.seeded(Means), list[tuple[str, int]]()
    turns = objective.turns
    objective.phases = lambda steps: [Phase("early", 3), Phase("late", steps - 3)]
    objective.turns = lambda phase, step: asked.append((phase, step)) or turns(phase, step)
    tiny.training(objective).evaluate()
    assert set(asked) == {("late", 7)}
