"""Learning rates by step."""

from __future__ import annotations

import pytest

from training.config import TrainConfig
from training.schedule import learning_rate


def rates(schedule: str, steps: int = 10, warmup: int = 4) -> list[float]:
    config = TrainConfig(steps=steps, lr=1.0, warmup_steps=warmup, schedule=schedule)  # type: ignore[arg-type]
    return [learning_rate(step, config) for step in range(steps)]


def test_linear() -> None:
    assert rates("linear") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_cosine_halves_in_the_middle_and_never_reaches_zero() -> None:
    found = rates("cosine", steps=12)
    assert found[4] == 1 and found[8] == pytest.approx(0.5) and 0 < found[-1] < 0.05


def test_warmup_stable_decay() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup_steps=2, schedule="warmup-stable-decay", decay_steps=3)
    found = [learning_rate(step, config) for step in range(10)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])


def test_constant() -> None:
    assert rates("constant") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
