"""Jobs of few labels, and rows of examples, as tests make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.labelled.files import Example, Labelled
from pipeline.downstream.fine_tune.heads import Encoded, Layout, module_of, shape_of, tokenizer_of
from pipeline.downstream.fine_tune.job import Config

SPLITS: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
NAMED = Labelled("classification", ["a", "b"], SPLITS, "made up", "CC0-1.0", "none")


def job_of(path: Path, **changes: Any) -> Config:
    values = {
        "name": "verbs", "task": "tagging", "data": {"path": str(path)}, "labels": [4, 40], "seeds": 2, "steps": 30,
        "batch": 8, "length": 32, "lrs": [5e-3, 1e-2], "validation_rows": 16, "test_rows": 32,
        "baselines": ["unigram"], **changes,
    }  # fmt: skip
    return Config.model_validate(values)


def encode(data: Labelled, examples: list[Example], folder: Path, length: int, framed: bool = False) -> Encoded:
    return module_of(shape_of(data)).encode(
        shape_of(data), examples, tokenizer_of(shape_of(data), folder, framed), Layout(length, length // 3)
    )
