"""A stated share of the rows is left out before learning, without a label, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from data_prep.errors import UserError
from pipeline.downstream.anomaly.job import DetectorConfig
from pipeline.downstream.anomaly.networks import Detector, detectors
from pipeline.downstream.anomaly.trimming import FOLDS, remaining, without_highest
from pipeline.recipe.load import load
from pipeline.stage import Context
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import table, whole_report

TRAINING: dict[str, Any] = {
    "kind": "table",
    "network": {"architecture": "mlp", "config": {"hidden": [24], "bottleneck": 2, "activation": "tanh"}},
    "objective": {"name": "autoencoder"},
    "corruption": {"kind": "gaussian", "level": 0.1},
    "train": {"steps": 150, "global_batch": 64, "lr": 1e-2, "precision": "fp32"},
    "seed": 0,
}


def detector(trim: float) -> Detector:
    asked = DetectorConfig(name="denoising", trim=trim)
    return detectors(TRAINING, asked, Context(downloads=Path(), placement={"threads": 1}))[0]


def rows(count: int, anomalies: int, seed: int) -> np.ndarray:
    """Six numbers on a plane; the last rows lie off it."""
    random = np.random.default_rng(seed)
    plane = np.random.default_rng(7).normal(size=(2, 6))
    values = random.normal(size=(count, 2)) @ plane + 0.1 * random.normal(size=(count, 6))
    values[count - anomalies :] = 1.5 * random.normal(size=(anomalies, 6))
    return values.astype(np.float32)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.floats(0, 0.499),
)
def test_exactly_the_share_with_the_highest_scores_is_left_out(scores: list[float], share: float) -> None:
    values = np.array(scores)
    left = without_highest(values, share)
    assert len(left) == len(scores) - round(share * len(scores))
    assert np.array_equal(left, np.unique(left)), "in order, each once"
    out = np.delete(np.arange(len(scores)), left)
    assert not len(out) or not len(left) or values[left].max() <= values[out].min()


def test_the_core_is_judged_by_what_did_not_learn_from_it_and_all_are_by_the_core() -> None:
    truth = np.random.default_rng(0).permutation(23).astype(float)
    asked: list[tuple[list[int], list[int]]] = []

    def judge(learn: np.ndarray, others: np.ndarray, number: int) -> np.ndarray:
        assert number == len(asked)
        asked.append((learn.tolist(), others.tolist()))
        return truth[others]

    left = remaining(23, 0.1, judge)
    everything = list(range(23))
    *folds, (core, last) = asked
    assert len(folds) == FOLDS and all(sorted(learn + others) == everything for learn, others in folds)
    assert sorted(row for _, others in folds for row in others) == everything, "each once"
    assert last == everything and sorted(truth[core]) == list(range(11)), "the lower half"
    assert sorted(truth[np.delete(everything, left)]) == [21, 22]


def test_no_stated_contamination_changes_no_bit() -> None:
    train, test = rows(60, 0, seed=0), rows(20, 10, seed=1)
    plain = detector(trim=0).scorer(train, seed=3).scores(test)
    for same in (detector(trim=1).scorer(train, 3), detector(trim=0).scorer(train, 3, contamination=0.2)):
        assert all(np.array_equal(same.scores(test)[name], values) for name, values in plain.items())


def test_unmarked_anomalies_are_found_and_not_learned() -> None:
    train, test = rows(200, 20, seed=0), rows(200, 100, seed=1)
    shuffled = train[np.random.default_rng(5).permutation(200)]
    left = detector(trim=1)._kept(shuffled, 3, 0.1)
    anomalous = {tuple(row) for row in train[180:]}
    out = {tuple(row) for row in np.delete(shuffled, left, 0)}
    assert len(out) == 20 and len(out & anomalous) >= 15
    contrasts = []
    for trim in (0, 1):
        scores = detector(trim).scorer(shuffled, 3, 0.1).scores(test)["error"]
        assert roc_auc_score(np.arange(200) >= 100, scores) > 0.95
        contrasts.append(np.median(scores[100:]) / np.median(scores[:100]))
    assert contrasts[1] > 1.3 * contrasts[0], "what was not learned is not rebuilt"


def test_a_job_reports_both(tmp_path: Path) -> None:
    job = (
        "{name: anomaly, task: anomaly, seeds: 1, contamination: 0.08, baselines: [], marked: [], "
        "detectors: [{name: plain}, {name: trimmed, trim: 1.5}]}"
    )
    train = "{global_batch: 32, steps: 20, lr: 1e-2, precision: fp32}"
    path = tiny_arrays.recipe(tmp_path, downstream=f"[{job}]", train=train, placement="{threads: 1}")
    report = whole_report(tiny_arrays.make(path, tmp_path)["anomaly"])
    assert report.notes["methods"]["plain: error"] != report.notes["methods"]["trimmed: error"]
    assert "8.0% of them all anomalies" in report.about and "trimmed 12.0%" in report.about
    rows = table(report, "Thresholds for 1 % false alarms").rows
    ways = [(row[0].partition(":")[0], row[1], float(row[2].partition("%")[0])) for row in rows]
    assert [(name, how) for name, how, _ in ways] == [
        ("plain", "by quantile"),
        ("plain", "by tail"),
        ("trimmed", "by quantile"),
        ("trimmed", "by tail"),
        ("trimmed", "by quantile, trimmed"),
    ]
    assert ways[4][2] >= ways[2][2], "it is lower, and flags more"


def test_more_than_half_of_the_rows_cannot_be_trimmed(tmp_path: Path) -> None:
    job = "{name: anomaly, task: anomaly, contamination: 0.2, detectors: [{name: a, trim: 3}]}"
    path = tiny_arrays.recipe(tmp_path, downstream=f"[{job}]")
    with pytest.raises(UserError, match=r"detectors\.0\.trim: leaves out more than 50% .* at most 2\.5"):
        load(path)
