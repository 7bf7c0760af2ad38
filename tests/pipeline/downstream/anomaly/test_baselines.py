"""Methods without a network of ours: what they score, and that no score depends on its batch."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.downstream.anomaly import baselines
from pipeline.downstream.anomaly.job import Baseline
from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, Measurements, recall_at


def rows(count: int, seed: int, width: float = 1.0) -> np.ndarray:
    """float32 [count, 5], skewed; wider ones are anomalies."""
    return (width * np.random.default_rng(seed).gamma(2.0, size=(count, 5)) - 2).astype(np.float32)


@pytest.mark.parametrize("name", sorted({*baselines.DETECTORS} - {"pyod-autoencoder", "pyod-vae", "deepsvdd"}))
def test_a_detector_tells_anomalies_by_rows_alone(name: str) -> None:
    test = np.concatenate([rows(40, 1), rows(40, 2, width=4.0)])
    detectors = baselines.fit(name, rows(200, 0), seed=0)
    scores = detectors[name](test)
    assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.8
    alone = np.concatenate([detectors[name](row[None]) for row in test])
    np.testing.assert_allclose(alone, scores, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(detectors[name](test[::-1])[::-1], scores, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["ecod", "copod"])
def test_ranked_alone_is_pyods_score_of_a_batch_of_one(name: str) -> None:
    train = rows(60, 0)
    extreme = np.array([[9, -9, 99, -99, 0]], np.float32)
    test = np.concatenate([rows(20, 1), train[:5], extreme])  # ties, and what changes a column's skewness
    detector = getattr(import_module(f"pyod.models.{name}"), name.upper())().fit(train)
    wanted = [detector.decision_function(row[None].astype(np.float64))[0] for row in test]
    np.testing.assert_allclose(baselines.ranked_alone(name, train)(test), wanted, rtol=1e-9)
    batched = baselines.fit(name, train, 0)[name + baselines.BATCHED](test)
    assert np.abs(batched - wanted).max() > 0.1, "PyOD's depends on the batch"


def test_components_that_do_not_vary_are_left_out() -> None:
    one_hot = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    train = np.concatenate([rows(90, 0), one_hot], 1)
    scores = baselines.fit("pca", train, 0)["pca"](train)
    assert np.isfinite(scores).all() and scores.max() < 1e6


def test_pca_is_pyods_where_every_component_varies() -> None:
    from pyod.models.pca import PCA

    wanted = PCA().fit(rows(90, 0)).decision_function(rows(30, 1))
    np.testing.assert_allclose(baselines.fit("pca", rows(90, 0), 0)["pca"](rows(30, 1)), wanted, rtol=1e-6)


def test_classifiers_are_given_marked_anomalies() -> None:
    test = np.concatenate([rows(60, 1), rows(60, 2, width=4.0)])
    for score in baselines.classifiers(rows(200, 0), rows(20, 3, width=4.0), seed=0).values():
        assert roc_auc_score(np.repeat([0, 1], 60), score(test)) > 0.85


def test_a_recipe_can_name_every_detector() -> None:
    assert set(get_args(Baseline)) == set(baselines.DETECTORS)


def test_recall_at_false_alarms_keeps_below_them() -> None:
    truth = np.repeat([False, True], [100, 4])
    scores = np.concatenate([np.arange(100.0), [150, 99.5, 98.5, 50]])
    assert recall_at(scores, truth, 0.0) == 0.5
    assert recall_at(scores, truth, 0.01) == 0.75
    assert recall_at(scores, truth, 0.5) == 1.0


def test_measures_are_means_over_splits() -> None:
    measured = Measurements(0.01)
    truth = np.array([False, False, True, True])
    for scores in ([0.0, 1.0, 2.0, 3.0], [0.0, 3.0, 1.0, 2.0]):
        measured.add({"one": np.array(scores)}, truth)
        measured.flag("one", "by hand", 1.5, np.array(scores), truth)
    assert measured.values["one"][AUROC] == [1.0, 0.5]
    assert measured.mean("one") == 0.75 and measured.spread("one") == pytest.approx(0.125**0.5)
    assert measured.values["one"][AVERAGE_PRECISION] == pytest.approx([1.0, (1 / 2 + 2 / 3) / 2])
    assert measured.flagged["one", "by hand"] == [(0.0, 1.0), (0.5, 0.5)]
    grid, precision = measured.precision_recall("one")
    assert precision[0] == pytest.approx((1 + 1 / 2) / 2) and precision[-1] == pytest.approx((1 + 2 / 3) / 2)
    assert measured.roc("one")[1][-1] == 1.0 and len(grid) == len(precision)


def test_the_curve_of_precision_is_that_of_average_precision() -> None:
    measured = Measurements(0.01)
    measured.add({"one": np.array([5.0, 4.0, 3.0, 2.0, 1.0])}, np.array([False, False, True, True, True]))
    grid, precision = measured.precision_recall("one")
    assert precision[np.searchsorted(grid, 0.6)] == pytest.approx(2 / 4)  # though 3 of 5 are right further on
    random = np.random.default_rng(0)
    truth = np.arange(400) < 100
    measured.add({"many": random.normal(size=400) + truth}, truth)
    grid, precision = measured.precision_recall("many")
    assert precision[1:].mean() == pytest.approx(measured.mean("many", AVERAGE_PRECISION), abs=1e-3)
