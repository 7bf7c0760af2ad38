"""Small generated corpora, and folders of files to make them from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep import ingest as module
from data_prep.corpus.documents import SplitConfig
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest import plan as plan_module
from tests.data_prep.bad_input.checks import SOUND, line
from tests.data_prep.ingesting import ingest
from tests.data_prep.test_ingest import prose

SUBJECTS = ["The Senate", "A fleet", "Every citizen", "The treasury", "Our Navy", "Congress"]
VERBS = ["approved", "will examine", "has received", "could not sustain", "paid for"]
OBJECTS = ["the treaty", "four ships", "a new tariff", "the debt of the war", "this measure"]


def speech(number: int, sentences: int = 12) -> str:
    """Text that differs from document to document, with commas, questions and paragraphs."""
    lines = []
    for i in range(sentences):
        k = number * 31 + i * 7
        parts = (SUBJECTS[k % 6], VERBS[k // 6 % 5], OBJECTS[k // 3 % 5])
        lines.append(f"{' '.join(parts)}, as in {1790 + (number + i) % 200}{'.?!'[i % 7 % 3]}")
    return "\n\n".join(" ".join(lines[i : i + 4]) for i in range(0, sentences, 4))


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three sound documents, in which each test puts something bad."""
    texts_folder = tmp_path / "texts"
    texts_folder.mkdir()
    (texts_folder / "0.txt").write_text(SOUND[0])
    (texts_folder / "z.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SOUND[1:]))
    return texts_folder


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is read in some ten units; copies within and across them, and bad rows."""
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 3000)
    monkeypatch.setattr(module, "SERIAL_BYTES", 0)
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [line(prose(number % 37)) for number in range(40)]
    (folder / "a.jsonl").write_text("".join([*lines, '{"text": 4}\n', "nonsense\n"]))
    for number in range(8):
        (folder / f"{number}.txt").write_text(prose(3 if number == 5 else 1000 + number))
    return folder
