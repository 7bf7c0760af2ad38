"""Exports the detector of an anomaly job for new rows, trained once more on the recipe's own split.

It learns from the normal training rows; its threshold and the baseline of drift come from the normal validation rows.
Test rows stay unseen, so that it can be compared with others on them (`pipeline.scoring.champion`), and what the
report promises is measured on them. Digests of the rows it has seen are stored with it, so that comparisons can leave
them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corruptions.noise import scaled
from data_prep.images.pixels import ImagesConfig
from data_prep.tables.transform.transform import Transform
from pipeline.artifact import Artifact
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.networks import Detector, seed_of
from pipeline.downstream.anomaly.rows import normal_rows
from pipeline.downstream.rows import rows_of
from pipeline.scoring import thresholds, training_rows
from pipeline.scoring.drift import Baseline
from pipeline.scoring.row_detector import TRANSFORM, RowDetector, drift_columns
from pipeline.scoring.row_reasons import RowInputs
from training.inference.anomaly import Usual

FINAL = -100  # the number of its split, which keys its seed
LEAST = 10  # rows that a threshold is drawn by


@dataclass(frozen=True)
class Exported:
    """The detector that stays, as it was tested."""

    asked: float
    """Share of normal rows that it may flag."""
    held_out: int
    """Normal rows that its threshold was drawn by."""
    promised: float | None
    """See `thresholds.Threshold`."""
    normal: tuple[int, int]
    """How many of how many normal test rows it flags."""
    anomalies: dict[str, tuple[int, int]]
    """The same of the anomalies among the test rows, by label."""
    learned: int
    """Test rows left out, because it has learned from equal ones."""

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of new normal rows that it flags lies, with 95 % probability."""
        return thresholds.interval(self.held_out, self.asked)

    @property
    def caught(self) -> tuple[int, int]:
        """How many of how many anomalies it flags."""
        flagged, count = np.sum([*self.anomalies.values(), (0, 0)], 0).tolist()
        return flagged, count


def export(
    detector: Detector, settings: dict[str, Any], job: Config, inputs: Mapping[str, Artifact], folder: Path
) -> Exported | str:
    """Train, write and test it; or say why there is none."""
    transform = Transform.load(inputs["preprocessor"].path / TRANSFORM) if "preprocessor" in inputs else None
    (learned, train_digests), (held_out, held_out_digests) = (
        _rows(job, inputs, split, transform) for split in ("train", "validation")
    )
    if len(held_out.values) < LEAST or not len(learned.values):
        lacks = "no normal row to learn from" if not len(learned.values) else f"and there are {len(held_out.values)}"
        return (
            f"No detector is left for new rows: its threshold needs {LEAST} normal rows held out, {lacks}; "
            "raise data.split.validation."
        )
    scorer = detector.scorer(learned.values, seed_of(settings, detector, FINAL))
    of_learned, plain = (
        scorer.scores(rows.values, job.importance_samples)[detector.score] for rows in (learned, held_out)
    )
    usual = Usual.of((of_learned, learned.outside), (plain, held_out.outside))
    normal = usual.raised(plain, held_out.outside)
    threshold, promised = thresholds.by_quantile(normal, job.false_alarms)
    exported = RowDetector(
        scorer,
        detector.score,
        threshold,
        Baseline.of(drift_columns(normal, transform, held_out)),
        transform,
        job.importance_samples,
        job.false_alarms,
        ImagesConfig.model_validate(inputs["corpus"].config["data"].get("images", {})) if transform is None else None,
        usual,
        len(held_out.values),
    )
    digests = np.concatenate([train_digests, held_out_digests])
    training_rows.save(folder, digests)
    exported.save(folder)
    return _tested(RowDetector.open(folder), digests, promised, job, inputs["corpus"].path)


def _tested(detector: RowDetector, learned: np.ndarray, promised: float | None, job: Config, corpus: Path) -> Exported:
    """What the saved detector flags of the test rows, except those that it has learned from."""
    rows, left_out = detector.test_rows(corpus, learned)
    flags: dict[str, list[np.ndarray]] = defaultdict(list)
    for batch, indices in rows.batches():
        if not len(indices):
            continue
        is_normal = normal_rows(rows.corpus, job, batch.label[indices])
        labels = np.array([label or "" for label in rows.corpus.labels(batch.row[indices])])
        flag = detector.score(detector.inputs(batch.input)).flag[indices]
        flags[""].append(flag[is_normal == 1])
        for label in np.unique(labels[is_normal == 0]).tolist():
            flags[label or "unnamed"].append(flag[(is_normal == 0) & (labels == label)])
    counts = {label: (int(np.sum(np.concatenate(parts))), sum(map(len, parts))) for label, parts in flags.items()}
    normal = counts.pop("", (0, 0))
    return Exported(job.false_alarms, detector.held_out, promised, normal, counts, left_out)


def _rows(
    job: Config, inputs: Mapping[str, Artifact], split: str, transform: Transform | None
) -> tuple[RowInputs, np.ndarray]:
    """The normal rows of a split, and digests of all its rows in the shards, anomalies included.

    Anomalies count because the transform has learned from them. There may be no rows.
    """
    if split not in inputs["shards"].summary:
        return RowInputs(np.empty((0, 1), np.float32), np.empty((0, 0))), np.empty(0, np.uint64)
    rows, corpus = rows_of(inputs["shards"], split), ArrayCorpus(inputs["corpus"].path, split)
    digests, outside = [], []
    for batch in corpus.batches():
        digests.append(training_rows.of_rows(batch.input))
        if transform is not None and isinstance(batch.input, pa.RecordBatch):
            outside.append(transform.outside(batch.input))
        else:
            outside.append(np.zeros((len(digests[-1]), 0)))
    of_shards, chosen = np.asarray(rows["row"]), normal_rows(corpus, job, np.asarray(rows["label"])) == 1
    values = scaled(np.asarray(rows["input"]))[chosen]
    if transform is not None:
        values = transform.within(values)
    return RowInputs(values, np.concatenate(outside)[of_shards][chosen]), np.concatenate(digests)[of_shards]
