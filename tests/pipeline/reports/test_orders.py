"""Which orders of arms hold, on made-up numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reports.orders import HOLDS, OPEN, REVERSED, Order, block_of, judged, pairs_of


def outcomes(values: Mapping[str, Mapping[int, float]], *pairs: tuple[str, str], higher: bool = True) -> list[str]:
    return [order.outcome for order in judged(block_of(values), pairs, higher)]


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_what_exceeds_the_spread_holds_and_what_does_not_cannot_be_told() -> None:
    values = {
        "best": by_seed(0.80, 0.81, 0.79),
        "near": by_seed(0.79, 0.80, 0.80),
        "worst": by_seed(0.50, 0.52, 0.49),
    }
    pairs = (("best", "worst"), ("worst", "near"), ("best", "near"))
    assert outcomes(values, *pairs) == [HOLDS, REVERSED, OPEN]
    assert outcomes(values, *pairs, higher=False) == [REVERSED, HOLDS, OPEN], "of a loss the lower one is better"


def test_what_a_seed_does_to_all_arms_alike_is_no_spread() -> None:
    """Seeds differ by far more than the arms do, and in each of them the same arm is better."""
    values = {"a": by_seed(0.30, 0.50, 0.90), "b": by_seed(0.28, 0.481, 0.879)}
    assert outcomes(values, ("a", "b")) == [HOLDS]
    ((order,),) = [judged(block_of(values), [("a", "b")], True)]
    assert order.gain == pytest.approx(0.02) and order.margin < 0.005


def test_one_seed_tells_nothing() -> None:
    values = {"a": by_seed(0.9), "b": by_seed(0.1)}
    assert outcomes(values, ("a", "b")) == [OPEN]
    assert block_of(values).margin() == math.inf


def test_values_that_are_equal_have_no_order() -> None:
    assert outcomes({"a": by_seed(0.5, 0.5), "b": by_seed(0.5, 0.5)}, ("a", "b")) == [OPEN]


def test_an_arm_without_values_and_a_seed_that_an_arm_lacks_are_left_out() -> None:
    values = {"a": {0: 0.9, 1: 0.91, 2: 0.1}, "b": {0: 0.5, 1: 0.52}, "failed": {}}
    block = block_of(values)
    assert (block.arms, block.seeds, block.table.shape) == (["a", "b"], [0, 1], (2, 2))
    assert outcomes(values, ("a", "b"), ("a", "failed")) == [HOLDS]
    assert outcomes({"a": {}, "b": {}}, ("a", "b")) == []
    assert outcomes({"a": {0: 1.0}, "b": {1: 2.0}}, ("a", "b")) == [], "no seed has both"


def test_an_order_of_several_arms_claims_each_pair_once() -> None:
    assert pairs_of([["a", "b", "c"], ["a", "c"], ["c", "d"]]) == [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]


@pytest.mark.parametrize(("gain", "outcome"), [(0.3, HOLDS), (-0.3, REVERSED), (0.1, OPEN), (-0.1, OPEN), (0.2, OPEN)])
def test_the_margin_itself_is_not_beyond_it(gain: float, outcome: str) -> None:
    assert Order("a", "b", gain, 0.2).outcome == outcome


NUMBERS = st.lists(st.floats(-5, 5), min_size=3, max_size=8)


@given(NUMBERS, st.integers(0, 1000))
def test_of_two_arms_it_is_the_paired_t_test(values: list[float], seed: int) -> None:
    others = np.array(values) + np.random.default_rng(seed).normal(0.3, 1, len(values))
    block = block_of({"a": by_seed(*values), "b": by_seed(*others.tolist())})
    test = stats.ttest_rel(values, others)
    low, high = test.confidence_interval(0.95)
    assert block.margin() == pytest.approx((high - low) / 2, rel=1e-6)
    assert (judged(block, [("a", "b")], True)[0].outcome == OPEN) == (test.pvalue >= 0.05)
