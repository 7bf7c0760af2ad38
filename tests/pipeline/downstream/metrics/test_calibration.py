"""Calibration: by hand, and of predictions that are as sure as they are right."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import UserError
from pipeline.downstream.metrics.calibration import calibration


def test_an_error_by_hand() -> None:
    """Two bins: confidence 0.3 and 1 of 2 right; confidence 0.9, 0.7 and all right."""
    made = calibration([0.2, 0.4, 0.9, 0.7], [True, False, True, True], num_bins=2)
    assert [(each.low, each.high, each.count) for each in made.bins] == [(0, 0.5, 2), (0.5, 1, 2)]
    assert [(each.confidence, each.accuracy) for each in made.bins] == [
        (pytest.approx(0.3), 0.5),
        (pytest.approx(0.8), 1),
    ]
    assert made.error == pytest.approx(100 * (2 * 0.2 + 2 * 0.2) / 4)


def test_edges_belong_to_the_bin_below() -> None:
    made = calibration([0.0, 0.5, 1.0], [0, 0, 1], num_bins=2)
    assert [each.count for each in made.bins] == [2, 1]


def test_who_is_as_sure_as_right_has_no_error() -> None:
    confidence = np.random.default_rng(0).random(200_000)
    right = np.random.default_rng(1).random(200_000) < confidence
    assert calibration(confidence, right).error < 0.5
    assert calibration(np.ones(4), [1, 1, 0, 0]).error == pytest.approx(50), "sure, and right half of the time"


def test_other_values_are_refused() -> None:
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(UserError, match="the confidence of row 1 is"):
            calibration([0.5, value], [1, 1])
    with pytest.raises(ValueError, match="2 rows and 1 predictions"):
        calibration([0.5, 0.5], [1])
