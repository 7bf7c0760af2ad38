"""Differences: scipy's tests where they apply, and what must hold of chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.downstream.metrics import measured
from pipeline.downstream.metrics.differences import holm, mcnemar, paired_bootstrap
from pipeline.downstream.metrics.measured import Measured


def of_right(right: np.ndarray) -> Measured:
    """The accuracy of rows, each of which is right or not."""
    return measured("accuracy", "class", np.ones(len(right), int), right.astype(int), [0, 1])


def two_sides(rows: int, gain: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whether two sides are right; the second more often by `gain`, on largely the same rows."""
    random = np.random.default_rng(seed)
    first = random.random(rows) < 0.8
    return first, np.where(random.random(rows) < 0.9, first, random.random(rows) < 0.8 + 10 * gain)


def test_the_interval_is_that_of_the_mean_difference() -> None:
    first, second = two_sides(2000, 0.01)
    found = paired_bootstrap([of_right(first)], [of_right(second)])["accuracy"]
    paired = 100 * (second.astype(float) - first)
    half = 1.96 * paired.std() / np.sqrt(2000)
    assert found.value == pytest.approx(paired.mean())
    assert found.low == pytest.approx(paired.mean() - half, abs=half / 10)
    assert found.high == pytest.approx(paired.mean() + half, abs=half / 10)
    expected = 2 * stats.norm.sf(paired.mean() / (paired.std() / np.sqrt(2000)))
    assert found.p == pytest.approx(expected, rel=0.5, abs=0.01)


def test_what_is_alike_is_not_told_apart() -> None:
    """Of twins with the same chances about one in twenty has a p below 0.05."""
    low = 0
    for seed in range(100):
        first, second = two_sides(200, 0.0, seed)
        low += paired_bootstrap([of_right(first)], [of_right(second)], samples=400)["accuracy"].p < 0.05
    assert 0 <= low <= 14
    right = np.arange(50) % 3 > 0
    same = paired_bootstrap([of_right(right)], [of_right(right)], samples=50)["accuracy"]
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_drawing_never_proves_more_than_it_can() -> None:
    clear = paired_bootstrap([of_right(np.zeros(50, bool))], [of_right(np.ones(50, bool))], samples=99)["accuracy"]
    assert clear.p == pytest.approx(2 / 100) and clear.value == clear.low == 100


def test_seeds_are_noise_too() -> None:
    """Two seeds that differ much make a wide interval, whatever the rows say."""
    first, second = two_sides(1000, 0.02)
    worse = first & (np.arange(1000) % 4 > 0)
    one = paired_bootstrap([of_right(first)], [of_right(second)], samples=600)["accuracy"]
    two = paired_bootstrap([of_right(first), of_right(worse)], [of_right(second)], samples=600)["accuracy"]
    assert two.high - two.low > 3 * (one.high - one.low)
    assert two.value == pytest.approx(100 * (second.mean() - (first.mean() + worse.mean()) / 2))


def test_the_variance_over_seeds_is_without_bias() -> None:
    """Of k seeds without noise of rows: s² / k, s² with k − 1 below."""
    rows, shares = 1000, [0.70, 0.76, 0.79]
    side = [Measured(rows, lambda weights, share=share: {"x": np.full(weights.shape[:-1], share)}) for share in shares]
    nothing = Measured(rows, lambda weights: {"x": np.zeros(weights.shape[:-1])})
    found = paired_bootstrap([nothing], side, samples=2000)["x"]
    assert found.value == pytest.approx(0.75)
    drawn = np.array([np.mean([shares[a], shares[b]]) for a in range(3) for b in range(3)])  # 2 of 3, with repeats
    assert drawn.std() == pytest.approx(np.std(shares, ddof=1) / np.sqrt(3))
    assert found.low == pytest.approx(drawn.min()) and found.high == pytest.approx(drawn.max())


def test_rows_that_are_alike_are_drawn_as_one() -> None:
    """The same distribution as that of rows drawn one by one, of a metric that is no sum over rows."""
    truth = np.array([0, 0, 0, 1, 1] * 30)
    guesses = [np.where(np.random.default_rng(seed).random(150) < 0.8, truth, 1 - truth) for seed in (0, 1)]
    sides = [[measured("matthews", "class", truth, guess, [0, 1])] for guess in guesses]
    one_by_one = [[replace(of_seed, sums=None) for of_seed in side] for side in sides]
    made, plain = (paired_bootstrap(*both, samples=8000)["matthews"] for both in (sides, one_by_one))
    assert made.value == plain.value
    assert (made.low, made.high) == pytest.approx((plain.low, plain.high), abs=0.8)
    assert made.p == pytest.approx(plain.p, abs=0.03)


def test_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[3, 4\]"):
        paired_bootstrap([of_right(np.ones(3, bool))], [of_right(np.ones(4, bool))])


def test_the_same_seed_draws_the_same() -> None:
    first, second = two_sides(100, 0.05)
    made = [paired_bootstrap([of_right(first)], [of_right(second)], samples=50, seed=seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_mcnemar_by_hand() -> None:
    """Only the first is right in 1 row, only the second in 7: p = 2 (1 + 8) / 2⁸."""
    first = np.array([True] * 1 + [False] * 7 + [True] * 50 + [False] * 20)
    second = np.array([False] * 1 + [True] * 7 + [True] * 50 + [False] * 20)
    assert mcnemar(first, second) == pytest.approx(18 / 256) == mcnemar(second, first)
    assert mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
