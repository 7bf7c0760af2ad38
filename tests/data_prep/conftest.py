"""Small generated corpora."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.clean import CleanConfig
from data_prep.corpus import SplitConfig
from data_prep.ingest import ingest
from data_prep.sources import SourceConfig

SUBJECTS = ["The Senate", "A fleet", "Every citizen", "The treasury", "Our Navy", "Congress"]
VERBS = ["approved", "will examine", "has received", "could not sustain", "paid for"]
OBJECTS = ["the treaty", "four ships", "a new tariff", "the debt of the war", "this measure"]


def speech(number: int, sentences: int = 12) -> str:
    """Text that differs from document to document, with commas, questions and paragraphs."""
    made = []
    for i in range(sentences):
        k = number * 31 + i * 7
        parts = (SUBJECTS[k % 6], VERBS[k // 6 % 5], OBJECTS[k // 3 % 5])
        made.append(f"{' '.join(parts)}, as in {1790 + (number + i) % 200}{'.?!'[i % 7 % 3]}")
    return "\n\n".join(" ".join(made[i : i + 4]) for i in range(0, sentences, 4))


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def make_corpus(tmp_path: Path, downloads: Path) -> Callable[..., Path]:
    """Ingest documents given as {name: text} or as rows with more fields; returns the folder."""

    def make(rows: list[dict[str, Any]], seed: int = 0, **split: float) -> Path:
        source = tmp_path / "made.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        folder = tmp_path / f"corpus-{seed}"
        config = SourceConfig(path=str(source), id_field="name")
        shares = SplitConfig(**(split or {"validation": 0.2, "test": 0.2}))
        ingest([config], CleanConfig(), shares, seed, folder, downloads)
        return folder

    return make
