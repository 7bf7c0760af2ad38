"""Exports the detector of an anomaly job for new rows, trained once more on the recipe's own split.

It learns from the normal training rows; its threshold and the baseline of drift come from the normal validation rows.
Test rows stay unseen, so that it can be compared with others on them (`pipeline.scoring.champion`). Digests of the rows
it has seen are stored with it, so that comparisons can leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corruptions.noise import scaled
from data_prep.images.pixels import ImagesConfig
from data_prep.tables.transform import Transform
from pipeline.artifact import Artifact
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.networks import Detector, seed_of
from pipeline.downstream.rows import rows_of
from pipeline.scoring import thresholds, training_rows
from pipeline.scoring.drift import Baseline
from pipeline.scoring.row_detector import TRANSFORM, RowDetector, drift_columns
from pipeline.scoring.row_reasons import RowInputs
from training.inference.anomaly import Usual

FINAL = -100  # the number of its split, which keys its seed
LEAST = 10  # rows that a threshold is drawn by


def export(
    detector: Detector, settings: dict[str, Any], job: Config, inputs: Mapping[str, Artifact], folder: Path
) -> str:
    """Train and write it; returns a caveat: there is none, or its threshold guarantees less than asked for."""
    transform = Transform.load(inputs["preprocessor"].path / TRANSFORM) if "preprocessor" in inputs else None
    (learned, train_digests), (held_out, held_out_digests) = (
        _rows(job, inputs, split, transform) for split in ("train", "validation")
    )
    if len(held_out.values) < LEAST:
        return (
            f"No detector is left for new rows: its threshold needs {LEAST} normal rows held out, and there are "
            f"{len(held_out.values)}; raise data.split.validation."
        )
    scorer = detector.scorer(learned.values, seed_of(settings, detector, FINAL))
    of_learned, plain = (
        scorer.scores(rows.values, job.importance_samples)[detector.score] for rows in (learned, held_out)
    )
    usual = Usual.of(of_learned, plain)
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
    )
    training_rows.save(folder, np.concatenate([train_digests, held_out_digests]))
    exported.save(folder)
    if promised is None or promised <= job.false_alarms:
        return ""
    return (
        f"The detector that is left for new rows may flag {promised:.1%} of normal ones, not {job.false_alarms:.1%}: "
        f"{len(held_out.values)} held out promise no more; raise data.split.validation."
    )


def _rows(
    job: Config, inputs: Mapping[str, Artifact], split: str, transform: Transform | None
) -> tuple[RowInputs, np.ndarray]:
    """The normal rows of a split, and digests of all its rows in the shards, anomalies included.

    Anomalies count because the transform has learned from them. There may be no rows.
    """
    if split not in inputs["shards"].summary:
        return RowInputs(np.empty((0, 1), np.float32), np.empty((0, 0))), np.empty(0, np.uint64)
    rows, classes = rows_of(inputs["shards"], split), inputs["corpus"].summary["classes"]
    normal = [classes.index(name) for name in job.normal] if job.normal else [0]
    digests, outside = [], []
    for batch in ArrayCorpus(inputs["corpus"].path, split).batches():
        digests.append(training_rows.of_rows(batch.input))
        if transform is not None and isinstance(batch.input, pa.RecordBatch):
            outside.append(transform.outside(batch.input))
        else:
            outside.append(np.zeros((len(digests[-1]), 0)))
    of_shards, chosen = np.asarray(rows["row"]), np.isin(np.asarray(rows["label"]), normal)
    values = scaled(np.asarray(rows["input"]))[chosen]
    return RowInputs(values, np.concatenate(outside)[of_shards][chosen]), np.concatenate(digests)[of_shards]
