"""Predictions that are made up: labels of some rows, a share of them right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.downstream.predictions_file import Part, PredictedTask, Predictions

TASK = PredictedTask("class", ("accuracy", "matthews"), ("bad", "good"))


def part(right: float, seed: int = 0, rows: int = 400, draw: int = 1, **changed) -> Part:
    """A share `right` of rows is right; which rows that are depends on `draw`."""
    truth = [TASK.labels[row % 2] for row in range(rows)]
    wrong = set(np.random.default_rng(draw).permutation(rows)[round(right * rows) :].tolist())
    predicted = [TASK.labels[(row + (row in wrong)) % 2] for row in range(rows)]
    fields = {"task": "reviews", "split": "test", "ids": [f"r{row}" for row in range(rows)], "truth": truth}
    return Part(**{**fields, "seed": seed, "predicted": predicted, **changed})


def predictions(*parts: Part, task: PredictedTask = TASK) -> Predictions:
    return Predictions({part.task: task for part in parts}, list(parts))


def seeds(right: Sequence[float], **changed) -> Predictions:
    """A part for each seed, with its share of right rows."""
    return predictions(*(part(share, seed, draw=seed + 7, **changed) for seed, share in enumerate(right)))
