"""A job on texts of two topics, and its fine-tunings, as tests make them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data_prep.labelled.files import Example, Labelled
from pipeline.downstream.fine_tune import trials
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.downstream.fine_tune.job import Config
from pipeline.stage import Context

DATA = Labelled(
    "classification",
    ["a", "b"],
    {
        split: [Example(text=f"{split} {number}", label=number % 2) for number in range(count)]
        for split, count in (("train", 60), ("validation", 30), ("test", 50))
    },
    "made up", "CC0-1.0", "none",
)  # fmt: skip
JOB = Config.model_validate(
    {
        "name": "topics", "task": "classification", "data": {"path": "rows.jsonl"}, "labels": [4, 20], "seeds": 3,
        "steps": 20, "batch": 8, "length": 32, "lrs": [1e-3, 1e-2], "scratch_lrs": [3e-3, 1e-1, 5e-3],
        "validation_rows": 12, "test_rows": 25, "baselines": ["majority"],
    }
)  # fmt: skip


NOTHING = Predicted([], [])
FOUND = trials.Trial({"accuracy": 0.5}, NOTHING)


def topics(folder: Path) -> trials.Trials:
    """All fine-tunings of the job; nothing has been trained."""
    pretrained: Any = SimpleNamespace(path=folder)
    context = Context(downloads=folder, placement={"threads": 1})
    return trials.Trials(JOB, {"seed": 5, "precision": "fp32"}, DATA, pretrained, context)
