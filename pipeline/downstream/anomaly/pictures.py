"""What detectors of unusual pictures see in them: found, rebuilt and wrong, normal ones above anomalies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.reports import detection
from pipeline.reports.detection import Pictures
from training.inference.anomaly import BOTH, STANDARDISED, Scorer

NORMAL, ANOMALIES = "normal", "anomalies"


def by_rank(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of at most `count` of the scores [n ≥ 1], the lowest, the highest and others evenly between by rank."""
    ranked = np.argsort(scores, kind="stable")
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return ranked[np.rint(places).astype(int)]


def groups(
    rows: np.ndarray, truth: np.ndarray, scores: np.ndarray, threshold: float, scorer: Scorer, score: str, count: int
) -> dict[str, Pictures]:
    """Normal ones, then anomalies, each from the least to the most unusual one.

    rows: float32 [R, C, H, W], truth [R] bool, scores [R]. Errors are those that `score` adds up, where it does, else
    squared ones.
    """
    found: dict[str, Pictures] = {}
    for name, which in ((NORMAL, np.flatnonzero(~truth)), (ANOMALIES, np.flatnonzero(truth))):
        places = which[by_rank(scores[which], count)]
        pictures = rows[places]
        rebuilt = scorer.rebuilt(pictures)
        if score in (STANDARDISED, BOTH):
            errors = scorer.by_feature(pictures).reshape(pictures.shape)
        else:
            errors = np.square(pictures.astype(np.float64) - rebuilt)
        found[name] = Pictures(pictures, rebuilt, errors.sum(1), scores[places], scores[places] > threshold)
    return found


def draw(found: dict[str, Pictures], score: str, path: Path) -> Path:
    """The figure of what `groups` gave."""
    what = "squared error of a pixel"
    if score in (STANDARDISED, BOTH):
        what += " ÷ its mean on what was learned"
    return detection.reconstructions(found, what, path)
