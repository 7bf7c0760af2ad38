"""Figure of images, their reconstructions and errors: normal ones above anomalies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.reports import detection
from pipeline.reports.detection import ImageGroup
from training.inference.anomaly import BOTH, STANDARDISED, Scorer

NORMAL, ANOMALIES = "normal", "anomalies"


def by_rank(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` of the scores [n ≥ 1], evenly spaced by rank from the lowest to the highest."""
    ranked = np.argsort(scores, kind="stable")
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return ranked[np.rint(places).astype(int)]


def groups(
    rows: np.ndarray, truth: np.ndarray, scores: np.ndarray, threshold: float, scorer: Scorer, score: str, count: int
) -> dict[str, ImageGroup]:
    """Normal images, then anomalies if there are any, each from the least to the most unusual one.

    rows: float32 [R, C, H, W], truth [R] bool, scores [R]. Errors are the terms of `score` where it is a sum,
    else squared errors.
    """
    by_name: dict[str, ImageGroup] = {}
    for name, which in ((NORMAL, np.flatnonzero(~truth)), (ANOMALIES, np.flatnonzero(truth))):
        if not len(which):
            continue
        places = which[by_rank(scores[which], count)]
        images = rows[places]
        rebuilt = scorer.rebuilt(images)
        if score in (STANDARDISED, BOTH):
            errors = scorer.by_feature(images).reshape(images.shape)
        else:
            errors = np.square(images.astype(np.float64) - rebuilt)
        by_name[name] = ImageGroup(images, rebuilt, errors.sum(1), scores[places], scores[places] > threshold)
    return by_name


def draw(by_group: dict[str, ImageGroup], score: str, path: Path) -> Path:
    """Draw the groups that `groups` returned."""
    label = "squared error of a pixel"
    if score in (STANDARDISED, BOTH):
        label += " ÷ its mean on what was learned"
    return detection.reconstructions(by_group, label, path)
