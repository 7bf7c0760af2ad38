"""Thresholds on scores: what is promised is kept, and nothing depends on the scores' scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from pipeline.scoring.thresholds import by_labels, by_quantile, by_tail, interval, of_share

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60, unique=True).map(np.array)
SHARES = st.floats(0.001, 0.9)


@given(SCORES, SHARES)
def test_a_quantile_is_an_order_statistic_and_never_the_minimum(scores: np.ndarray, share: float) -> None:
    threshold = by_quantile(scores, share)
    assert threshold.value in scores
    assert threshold.value > scores.min() or share >= len(scores) / (len(scores) + 1)
    assert threshold.promised is not None
    if threshold.value < scores.max():
        assert threshold.promised <= share + 1e-9
    flagged = (scores > threshold.value).sum() + 1  # of these rows and a new one above all of them
    assert flagged / (len(scores) + 1) == pytest.approx(threshold.promised)


def test_a_quantile_keeps_its_promise_on_new_rows() -> None:
    random = np.random.default_rng(0)
    flagged = []
    for _ in range(3000):
        *held_out, new = random.gamma(2.0, size=100)
        flagged.append(new > by_quantile(np.array(held_out), 0.05).value)
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.011)


def test_too_few_rows_give_the_largest_score_and_say_what_that_promises() -> None:
    assert by_quantile(np.array([3.0, 1.0, 2.0]), 0.01) == (3.0, 0.25)


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_a_tail_is_extrapolated(share: float) -> None:
    """Of an exponential distribution: its quantile is −log(share)."""
    random = np.random.default_rng(1)
    thresholds = [by_tail(7 + 3 * random.exponential(size=3000), share).value for _ in range(8)]
    wanted = 7 - 3 * np.log(share)
    assert np.mean(thresholds) == pytest.approx(wanted, rel=0.05)
    assert np.std(thresholds) < 0.15 * wanted


def test_a_tail_reaches_beyond_the_largest_score() -> None:
    scores = np.random.default_rng(2).exponential(size=500)
    assert by_tail(scores, 1e-5).value > scores.max()
    assert by_tail(scores, 0.001).value < by_tail(scores, 0.0001).value


def test_a_tail_moves_with_the_scale_of_the_scores() -> None:
    scores = np.random.default_rng(3).exponential(size=400)
    assert by_tail(1e6 * scores + 5, 0.01).value == pytest.approx(1e6 * by_tail(scores, 0.01).value + 5, rel=1e-3)


def test_a_share_larger_than_the_tail_is_read_off() -> None:
    scores = np.random.default_rng(4).exponential(size=400)
    assert by_tail(scores, 0.3) == by_quantile(scores, 0.3)


def test_equal_scores_have_no_tail() -> None:
    assert by_tail(np.ones(50), 0.01).value == 1.0


def test_scores_equal_to_where_the_tail_begins_are_none_of_it() -> None:
    """Of 200 scores a tail of 20 would begin at 0, as ten others do."""
    of_one_value = np.repeat([0.0, 1e12], [190, 10])
    assert by_tail(of_one_value, 0.01) == (1e12, None), "one of them would have flagged ten"
    assert by_tail(of_one_value, 0.06) == by_quantile(of_one_value, 0.06), "more than the tail has"
    random = np.random.default_rng(5)
    values = np.concatenate([np.zeros(950), random.exponential(size=50)])
    thresholds = [by_tail(values, share) for share in (0.04, 0.02, 0.01)]
    assert [round(1000 * float((values > threshold.value).mean())) for threshold in thresholds] == pytest.approx(
        [40, 20, 10], abs=5
    )


def test_labels_give_the_best_f1() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert by_labels(scores, np.array([0, 0, 0, 1, 0, 1])).value == 3.5  # F1 0.8; above 5.5 it is 0.67
    assert by_labels(scores, np.array([0, 0, 0, 0, 1, 1])).value == 4.5


@pytest.mark.parametrize("high", [1.0, np.nextafter(1.0, 2), -1.0, 5e-324, 0.0, 1.7e308, -1.7e308])
def test_a_threshold_by_labels_is_between_neighbours(high: float) -> None:
    """What lies above it is flagged, whether or not there is a number between two scores."""
    low = float(np.nextafter(high, -np.inf))
    for scores in ([low, high], [low, low, high], [high - abs(high) / 100 - 1, high], [high - 1, low, high]):
        labels = np.array(scores) == high
        assert np.array_equal(np.array(scores) > by_labels(np.array(scores), labels).value, labels)


@given(SCORES, st.integers(0, 2**32 - 1))
def test_no_other_threshold_has_a_better_f1(scores: np.ndarray, seed: int) -> None:
    scores = np.round(scores, -5)  # some are equal
    labels = np.random.default_rng(seed).random(len(scores)) < 0.4
    labels[0], labels[1] = True, False

    def f1(threshold: float) -> float:
        above = scores > threshold
        return 2 * (above & labels).sum() / (above.sum() + labels.sum())

    assert f1(by_labels(scores, labels).value) == pytest.approx(max(f1(t) for t in [*scores, scores.min() - 1]))


def test_what_thresholds_refuse() -> None:
    with pytest.raises(UserError, match="finite"):
        by_quantile(np.array([1.0, np.nan]), 0.1)
    with pytest.raises(UserError, match="at least one row"):
        by_quantile(np.array([]), 0.1)
    with pytest.raises(UserError, match="at least 2"):
        by_tail(np.array([1.0]), 0.1)
    with pytest.raises(UserError, match="normal rows and anomalies"):
        by_labels(np.array([1.0, 2.0]), np.array([True, True]))


@pytest.mark.parametrize("count", [30, 150, 2000])
def test_the_interval_of_a_threshold_holds_in_95_of_100_draws(count: int) -> None:
    """Of new rows drawn as the held-out ones: by the order statistic of uniform scores, whose rate is known."""
    random = np.random.default_rng(count)
    low, high = interval(count, 0.01)
    drawn = [by_quantile(random.uniform(size=count), 0.01) for _ in range(2000)]
    rates = [1 - threshold.value for threshold in drawn]
    within = np.mean([low <= rate <= high for rate in rates])
    assert 0.93 < within < 0.97
    assert np.mean(rates) == pytest.approx(drawn[0].promised, rel=0.1)


def test_the_interval_of_a_share() -> None:
    """Beside published values (Clopper & Pearson 1934): 0 of 10 and 5 of 10."""
    assert of_share(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert of_share(5, 10) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert of_share(10, 10)[1] == 1.0
