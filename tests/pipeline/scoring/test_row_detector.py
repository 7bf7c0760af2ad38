"""A detector of rows as a folder, and how it is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corpus.arrays import ArrayBatch
from pipeline.scoring.detector import auroc
from pipeline.scoring.row_detector import AUROC, SHARE, RowDetector
from tests.pipeline import detectors
from training.inference.anomaly import Usual


def test_a_saved_detector_is_the_same_in_every_setting(tmp_path: Path) -> None:
    made = replace(
        detectors.detector(),
        importance_samples=7,
        false_alarms=0.03,
        usual=Usual(0.25, 4.5, 5.5),
        held_out=321,
        threshold=2.5,
    )
    made.save(tmp_path)
    opened = RowDetector.open(tmp_path)
    for name in ("score_name", "threshold", "importance_samples", "false_alarms", "usual", "held_out", "images"):
        assert getattr(opened, name) == getattr(made, name), name
    assert opened.reads == made.reads and opened.baseline.to_json() == made.baseline.to_json()


class Labelled:
    """Some rows of a corpus, in two batches. The labels: 0 is the normal class, −1 is unlabelled."""

    def __init__(self, label: np.ndarray, included: np.ndarray, classes: list[int]) -> None:
        self.rows, self.label, self.included, self.classes = (
            detectors.rows(60, seed=4, moved=1.0),
            label,
            included,
            classes,
        )

    def batches(self) -> Any:
        for start, end in ((0, 25), (25, 60)):
            row = np.arange(start, end)
            batch = ArrayBatch(self.rows.slice(start, end - start), self.label[row], row)
            yield batch, np.flatnonzero(self.included[row])

    def normal_classes(self, normal: Any) -> list[int]:
        return self.classes


@pytest.mark.parametrize("anomalies", [True, False])
def test_a_detector_is_measured_on_labelled_rows_that_are_included(anomalies: bool) -> None:
    detector, random = detectors.detector(), np.random.default_rng(1)
    label, included = random.integers(-1, 3, 60), random.random(60) < 0.7
    rows: Any = Labelled(label if anomalies else np.minimum(label, 0), included, [0])
    score = detector.score(detector.inputs(rows.rows))
    evaluation = detector.evaluate(rows, [])
    if anomalies:
        counted = included & (label >= 0)
        assert evaluation.value == pytest.approx(auroc(score.score[counted], label[counted] > 0))
        assert evaluation.measure == AUROC and 0 < evaluation.value < 1
    else:
        assert evaluation.measure == SHARE and evaluation.value == score.flag[included].mean() > 0
