"""Learning rates by step."""

from __future__ import annotations

import math

import pytest

from data_prep.corruptions.masking import MaskingConfig
from data_prep.corruptions.noise import NoiseConfig
from data_prep.errors import UserError
from training.config import LongerConfig, TrainConfig
from training.schedule import learning_rate


def rates(schedule: str, steps: int = 10, warmup: int = 4) -> list[float]:
    config = TrainConfig(steps=steps, lr=1.0, warmup_steps=warmup, schedule=schedule)  # type: ignore[arg-type]
    return [learning_rate(step, config) for step in range(steps)]


def test_linear() -> None:
    assert rates("linear") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_cosine_halves_in_the_middle_and_never_reaches_zero() -> None:
    rates_by_step = rates("cosine", steps=12)
    assert rates_by_step[4] == 1 and rates_by_step[8] == pytest.approx(0.5) and 0 < rates_by_step[-1] < 0.05


def test_what_comes_down_may_end_above_zero() -> None:
    """nanoGPT's: min + ½(1 + cos π·share)·(max − min)."""
    config = TrainConfig(steps=12, lr=6e-4, warmup_steps=4, schedule="cosine", lr_end=0.1)
    wanted = [6e-5 + 0.5 * (1 + math.cos(math.pi * (step - 4) / 8)) * (6e-4 - 6e-5) for step in range(4, 12)]
    assert [learning_rate(step, config) for step in range(4, 12)] == pytest.approx(wanted)
    linear = TrainConfig(steps=10, lr=1.0, lr_end=0.5)
    assert [learning_rate(step, linear) for step in (0, 5)] == pytest.approx([1.0, 0.75])


def test_warmup_stable_decay() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup_steps=2, schedule="warmup-stable-decay", decay_steps=3)
    rates_by_step = [learning_rate(step, config) for step in range(10)]
    assert rates_by_step == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])


def test_constant() -> None:
    assert rates("constant") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_a_warm_up_is_told_in_steps_or_as_a_share() -> None:
    steps = TrainConfig(steps=1500, lr=1.0, warmup_steps=100)
    share = TrainConfig(steps=1500, lr=1.0, warmup=0.0667)
    assert [learning_rate(step, share) for step in range(1500)] == [learning_rate(step, steps) for step in range(1500)]
    assert TrainConfig(steps=30, lr=1.0, warmup=0.0667).warmup_length == 2


def test_longer_rows_are_corrupted_as_asked() -> None:
    usual = MaskingConfig(kind="masked-lm", max_predictions=20)
    assert LongerConfig(length=512, max_predictions=77).corruption(usual).max_predictions == 77
    assert LongerConfig(length=512).corruption(usual) is usual
    with pytest.raises(UserError, match=r"train\.longer\.max_predictions: corruption\.kind 'gaussian' has no such"):
        LongerConfig(length=512, max_predictions=77).corruption(NoiseConfig(kind="gaussian", level=0.1))
