"""The detector that an anomaly job leaves for new rows: trained once more, on the recipe's own split.

It learns from the normal training rows, and its threshold and all that drift is measured against come from the normal
validation rows. Test rows stay unseen, so that it can be compared with others on them (`pipeline.promotion`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.noise import scaled
from data_prep.transform import Transform
from pipeline.array_jobs import AnomalyConfig
from pipeline.artifact import Artifact
from pipeline.detector import TRANSFORM
from pipeline.detector import Detector as Finished
from pipeline.downstream import thresholds
from pipeline.downstream.anomaly_networks import Detector, seed_of
from pipeline.downstream.arrays import rows_of
from pipeline.drift import SCORE, Baseline

FINAL = -100  # the number of its split, which keys its seed
LEAST = 10  # rows that a threshold is drawn by


def export(
    detector: Detector, config: dict[str, Any], job: AnomalyConfig, inputs: dict[str, Artifact], folder: Path
) -> Finished | None:
    """Train and write it; None where too few normal rows are held out for a threshold."""
    shards = inputs["shards"]
    if "validation" not in shards.summary:
        return None
    learn, held_out = (_normal(job, inputs, split) for split in ("train", "validation"))
    if len(held_out) < LEAST:
        return None
    scorer = detector.scorer(learn, seed_of(config, detector, FINAL))
    normal = scorer.scores(held_out, job.importance_samples)[detector.score]
    kept = shards.path / TRANSFORM
    transform = Transform.load(kept) if kept.is_file() else None
    told = {SCORE: normal}
    if transform is not None:
        told |= dict(zip(transform.features, held_out.T, strict=True))
    line = thresholds.by_quantile(normal, job.false_alarms).value
    standardise = config.get("standardise", False)
    made = Finished(scorer, detector.score, line, Baseline.of(told), transform, job.importance_samples, standardise)
    made.save(folder)
    return made


def _normal(job: AnomalyConfig, inputs: dict[str, Artifact], split: str) -> np.ndarray:
    """The normal rows of a split, as networks are given them."""
    rows, classes = rows_of(inputs["shards"], split), inputs["corpus"].summary["classes"]
    normal = [classes.index(name) for name in job.normal] if job.normal else [0]
    return scaled(np.asarray(rows["input"]))[np.isin(np.asarray(rows["label"]), normal)]
