"""Metrics of detectors by hand: what a threshold flags, recall at a share of false alarms, means over splits."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, KNOWN, NEW, RECALL, Measurements, recall_at

SCORES = np.array([1.0, 2.0, 3.0, 4.0, 4.0, 5.0])
ODD = np.array([False, False, True, False, True, True])


def test_a_row_is_flagged_above_the_threshold_and_not_at_it() -> None:
    measured = Measurements(0.01)
    for threshold in (0.5, 3.9, 4.0, 5.0):
        measured.flag("ours", "by quantile", threshold, SCORES, ODD)
    assert measured.flagged["ours", "by quantile"] == [(1.0, 1.0), (1 / 3, 2 / 3), (0.0, 1 / 3), (0.0, 0.0)]


@pytest.mark.parametrize(("share", "recall"), [(0.0, 1 / 3), (0.32, 1 / 3), (1 / 3, 1.0), (0.9, 1.0)])
def test_recall_is_the_highest_at_no_more_false_alarms(share: float, recall: float) -> None:
    """A row that is as unusual as an anomaly is flagged with it."""
    assert recall_at(SCORES, ODD, share) == pytest.approx(recall)


def test_metrics_are_those_of_their_definitions() -> None:
    measured = Measurements(1 / 3)
    measured.add({"ours": SCORES, "reverse": -SCORES}, ODD)
    normal, odd = SCORES[~ODD], SCORES[ODD]
    area = np.mean([(a > b) + 0.5 * (a == b) for a in odd for b in normal])
    assert measured.values["ours"][AUROC] == [pytest.approx(area)]
    assert measured.values["reverse"][AUROC] == [pytest.approx(1 - area)]
    assert measured.values["ours"][RECALL] == [1.0]
    # The highest score is an anomaly; of the next two one is; of the four highest three are.
    precision = 1 / 3 * 1 + 1 / 3 * (2 / 3) + 1 / 3 * (3 / 4)
    assert measured.values["ours"][AVERAGE_PRECISION] == [pytest.approx(precision)]


def test_splits_are_averaged_and_their_spread_is_the_samples() -> None:
    measured = Measurements(0.1)
    for scores in (SCORES, -SCORES, SCORES):
        measured.add({"ours": scores}, ODD)
    areas = measured.values["ours"][AUROC]
    assert measured.mean("ours") == pytest.approx(np.mean(areas))
    assert measured.spread("ours") == pytest.approx(np.std(areas, ddof=1)) != 0
    assert measured.mean_and_spread("ours") == f"{100 * np.mean(areas):.2f} ± {100 * np.std(areas, ddof=1):.2f}"
    (grid, curve), alone = measured.roc("ours"), Measurements(0.1)
    alone.add({"ours": SCORES}, ODD)
    assert grid[0] == 0 and grid[-1] == 1 and curve[-1] == 1 and (np.diff(curve) >= 0).all()
    assert alone.spread("ours") == 0.0
    assert alone.roc("ours")[1][0] == pytest.approx(1 / 3), "without a false alarm one of three is found"
    recall, precision = alone.precision_recall("ours")
    assert precision[0] == 1 and precision[np.searchsorted(recall, 0.5)] == pytest.approx(2 / 3)
    assert precision[-1] == pytest.approx(3 / 4)


def test_kinds_are_measured_against_all_normal_rows() -> None:
    measured = Measurements(0.1)
    kinds = np.array(["usual", "usual", "a", "usual", "b", "b"])
    measured.add_kinds({"ours": SCORES}, ODD, kinds, {"a"})
    by_kind = measured.by_kind["ours"]
    assert by_kind["a"] == [(pytest.approx(2 / 3), True)]
    assert by_kind["b"] == [(pytest.approx((2.5 + 3) / 6), False)]
    assert measured.values["ours"][KNOWN] == [pytest.approx(2 / 3)]
    assert measured.values["ours"][NEW] == [pytest.approx(5.5 / 6)]
    measured.add_kinds({"others": SCORES}, ODD, kinds, ())
    assert KNOWN not in measured.values["others"] and set(measured.by_kind["others"]) == {"a", "b"}
