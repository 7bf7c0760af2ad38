"""A run tells what is odd once, as warnings of the stage that shows it, and ends where there is no use in training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from flows import pretrain
from flows.pretrain import Session
from pipeline.home import Home
from pipeline.recipe.load import load


class Told(pretrain.NullObserver):
    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []

    def callback(self, name: str) -> Any:
        return lambda message, done=None, warning="": self.warnings.append((name, warning))


def session(tmp_path: Path, validation: int) -> tuple[Session, Told]:
    tracker = Told()
    splits = {name: {"documents": n} for name, n in (("train", 9), ("validation", validation), ("test", 2))}
    execution: Any = SimpleNamespace(artifacts={"ingest": SimpleNamespace(summary={"splits": splits})})
    return Session(Home(tmp_path), load("quickstart", None, []), tracker, execution=execution), tracker


def test_a_warning_is_told_once(tmp_path: Path) -> None:
    running, tracker = session(tmp_path, validation=1)
    pretrain._tell_findings(running, "ingest")
    pretrain._tell_findings(running, "tokenizer")
    ((name, text),) = tracker.warnings
    assert name == "ingest" and text.startswith("validation is 1 of 12 documents")


def test_what_cannot_be_measured_is_not_trained(tmp_path: Path) -> None:
    running, tracker = session(tmp_path, validation=0)
    with pytest.raises(UserError, match="nothing is trained: validation is empty"):
        pretrain._tell_findings(running, "ingest")
    assert tracker.warnings == []


def test_a_run_that_nobody_watches_logs_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running, _ = session(tmp_path, validation=1)
    running.observer = pretrain.NullObserver()
    pretrain._tell_findings(running, "ingest")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.message.startswith("ingest: validation is 1 of 12 documents")
