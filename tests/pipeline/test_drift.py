"""PSI and Kolmogorov–Smirnov against their definitions, and on rows that moved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pipeline.drift import Baseline, ks, psi


def test_psi_by_hand() -> None:
    """Shares (51, 49)/100 and (26, 74)/100 of counts with half a row added."""
    p, q = np.array([50.5, 48.5]) / 99, np.array([25.5, 73.5]) / 99
    assert psi([50, 48], [25, 73]) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert psi([10, 20, 30], [10, 20, 30]) == 0.0
    assert psi([1, 9], [9, 1]) == pytest.approx(psi([9, 1], [1, 9]))


def test_ks_is_scipys_where_bins_are_values() -> None:
    random = np.random.default_rng(0)
    new, normal = random.integers(0, 8, 300), random.integers(1, 9, 500)
    counts = [np.bincount(values, minlength=9) for values in (new, normal)]
    assert ks(*counts) == pytest.approx(ks_2samp(new, normal).statistic)
    assert ks([0, 0], [3, 4]) == 0.0


def test_moved_rows_drift_and_others_do_not() -> None:
    random = np.random.default_rng(1)
    baseline = Baseline.of({"x": random.normal(size=2000), "y": random.normal(size=2000)})
    new = {"x": random.normal(size=2000), "y": random.normal(size=2000) + 1}
    drift = baseline.drift(baseline.count(new))
    assert drift["x"][0] < 0.1 < 0.25 < drift["y"][0]
    assert drift["x"][1] < 0.06 < 0.3 < drift["y"][1]


def test_counts_add_up_over_batches() -> None:
    random = np.random.default_rng(2)
    baseline, values = Baseline.of({"x": random.normal(size=100)}), random.normal(size=90)
    whole = baseline.count({"x": values})["x"]
    parts = [baseline.count({"x": part})["x"] for part in np.split(values, 3)]
    assert np.array_equal(whole, sum(parts)) and whole.sum() == 90
    assert Baseline.of_json(baseline.to_json()) == baseline


def test_a_column_of_one_value_has_a_bin_for_it() -> None:
    baseline = Baseline.of({"x": np.full(50, 3.0)})
    assert baseline.drift(baseline.count({"x": np.full(50, 3.0)}))["x"] == (0.0, 0.0)
    assert baseline.drift(baseline.count({"x": np.full(50, 4.0)}))["x"][1] == 1.0
