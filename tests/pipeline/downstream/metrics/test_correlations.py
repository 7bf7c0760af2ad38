"""Pearson and Spearman: scipy's values, with ties and drawings of rows, and where they have none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from data_prep.errors import UserError
from pipeline.downstream.metrics import measured, scores

BOTH = ["pearson", "spearman"]
values_of_rows = st.lists(
    st.tuples(st.sampled_from([0, 0.25, 1, 2.6, 5]), st.integers(-50, 50)), min_size=2, max_size=25
)


@settings(max_examples=40, deadline=None)
@given(values_of_rows)
def test_equal_to_scipy(rows: list[tuple[float, float]]) -> None:
    truth, predicted = np.array(rows, float).T
    assume(np.ptp(truth) > 0 and np.ptp(predicted) > 0)
    values = scores(BOTH, "score", truth, predicted)
    assert values["pearson"] == pytest.approx(100 * stats.pearsonr(truth, predicted)[0], abs=1e-6)
    assert values["spearman"] == pytest.approx(100 * stats.spearmanr(truth, predicted)[0], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_weights_are_rows_that_are_drawn_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 5, 30).astype(float), random.integers(0, 9, 30) / 3
    weights = random.multinomial(30, [1 / 30] * 30, 4)
    for name in BOTH:
        for value, counts in zip(measured(name, "score", truth, predicted).of(weights)[name], weights, strict=True):
            drawn = np.repeat(np.arange(30), counts)
            assert value == pytest.approx(scores([name], "score", truth[drawn], predicted[drawn])[name], abs=1e-9)


def test_values_by_hand() -> None:
    """Ranks are of what was predicted, however near to each other."""
    assert scores(["spearman"], "score", [1, 2, 3], [1e9, 1e9 + 1e-6, 1e9 + 2e-6])["spearman"] == pytest.approx(100)
    assert scores(["spearman"], "score", [1, 2, 3, 4], [10, 30, 20, 40])["spearman"] == pytest.approx(80)
    assert scores(BOTH, "score", [1, 2, 3], [-2, -4, -6]) == {
        "pearson": pytest.approx(-100),
        "spearman": pytest.approx(-100),
    }


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
def test_constant_predictions_order_nothing(constant: float) -> None:
    assert scores(BOTH, "score", [1, 2, 3], [constant] * 3) == {"pearson": 0, "spearman": 0}


def test_a_drawing_of_one_row_has_no_correlation() -> None:
    for name in BOTH:
        values = measured(name, "score", [0.1, 0.7, 0.3], [0.3, 0.1, 0.9]).of(np.array([[0, 3, 0], [1, 1, 1]]))[name]
        assert values[0] == 0 and values[1] != 0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="2 of 3 predictions are not finite, the first in row 1: the network diverged"):
        scores(["pearson"], "score", [1, 2, 3], [1, float("nan"), float("inf")])
    with pytest.raises(UserError, match="the score of row 0 is nan; expected a number"):
        scores(["spearman"], "score", [float("nan"), 2], [1, 2])
    with pytest.raises(UserError, match="all 2 rows have the score 2"):
        scores(["pearson"], "score", [2.5, 2.5], [1, 2])
