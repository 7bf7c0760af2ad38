"""The metric of labelled tasks."""

from __future__ import annotations

import numpy as np

from data_prep.labelled.files import Labelled
from pipeline.downstream.fine_tune.examples import Encoded

OUTSIDE = "O"  # the tag of words that carry none
MISSED = -1  # prediction for a word that did not fit into its row: never right


def metric_name(data: Labelled) -> str:
    """Micro-averaged F1 over the other classes for tags with an outside class; accuracy otherwise."""
    return "F1" if data.task == "tagging" and OUTSIDE in data.labels else "accuracy"


def score(data: Labelled, rows: Encoded, predicted: np.ndarray) -> float:
    """Score of predictions [those of `rows.truth` that fit]; the others count as wrong."""
    answers = np.full(len(rows.truth), MISSED)
    answers[rows.fits] = predicted
    return score_answers(data, rows.truth, answers)


def score_answers(data: Labelled, truth: np.ndarray, answers: np.ndarray) -> float:
    if metric_name(data) == "accuracy":
        return float(np.mean(answers == truth))
    from sklearn.metrics import f1_score

    scored_tags = [i for i, label in enumerate(data.labels) if label != OUTSIDE]
    return float(f1_score(truth, answers, labels=scored_tags, average="micro", zero_division=0))  # type: ignore[arg-type]
