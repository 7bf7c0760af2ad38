"""PSI and Kolmogorov–Smirnov against their definitions, and on rows that moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pipeline.scoring.drift import Baseline, ks, psi


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
    expected: Any = ks_2samp(new, normal)
    assert ks(*counts) == pytest.approx(expected.statistic)
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
    total = baseline.count({"x": values})["x"]
    parts = [baseline.count({"x": part})["x"] for part in np.split(values, 3)]
    assert np.array_equal(total, sum(parts)) and total.sum() == 90
    assert Baseline.of_json(baseline.to_json()) == baseline


def test_a_column_of_one_value_has_a_bin_for_it() -> None:
    baseline = Baseline.of({"x": np.full(50, 3.0)})
    assert baseline.drift(baseline.count({"x": np.full(50, 3.0)}))["x"][:2] == (0.0, 0.0)
    for other in (4.0, 2.0):  # either way
        moved = baseline.drift(baseline.count({"x": np.full(50, other)}))["x"]
        assert moved.ks == 1.0 and moved.beyond(0.25)


def test_a_value_that_becomes_rare_drifts() -> None:
    """Ones that are zeros from now on; and what was rare and is not any more."""
    mostly_ones = (np.arange(400) % 20 > 0).astype(float)
    baseline = Baseline.of({"x": mostly_ones})
    for new in (np.zeros(200), 1 - mostly_ones):
        drift = baseline.drift(baseline.count({"x": new}))["x"]
        assert drift.beyond(0.25) and drift.ks > 0.8
    assert not baseline.drift(baseline.count({"x": mostly_ones[:200]}))["x"].beyond(0.25)


@pytest.mark.parametrize(("normal", "new", "columns"), [(54, 100, 31), (54, 5000, 31), (200, 100, 31), (54, 100, 1)])
def test_chance_is_no_drift_and_a_shift_is(normal: int, new: int, columns: int) -> None:
    """PSI of so few rows is beyond 0.25 by chance; by less than what `chance` says, but for one pass of a hundred."""
    random = np.random.default_rng(normal + new + columns)
    names = [f"x{number}" for number in range(columns)]

    def drawn(rows: int) -> dict[str, np.ndarray]:
        return {name: random.normal(size=rows) for name in names}

    large = false = num_shifted = 0
    for _ in range(100):
        baseline, rows = Baseline.of(drawn(normal)), drawn(new)
        drift = baseline.drift(baseline.count(rows))
        large += any(column.psi > 0.25 for column in drift.values())
        false += any(column.beyond(0.25) for column in drift.values())
        rows["x0"] = rows["x0"] + 1.5
        num_shifted += baseline.drift(baseline.count(rows))["x0"].beyond(0.25)
    assert large > 20 and false <= 4 and num_shifted >= 95


def test_many_rows_leave_the_limit_to_whoever_sets_it() -> None:
    rows = np.random.default_rng(3).normal(size=20_000)
    baseline = Baseline.of({"x": rows})
    assert baseline.drift(baseline.count({"x": rows}))["x"].chance < 0.01
    assert baseline.drift(baseline.count({"x": rows[:0]}))["x"].chance == 0.0
