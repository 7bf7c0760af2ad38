from __future__ import annotations

from typing import Any

import pytest

from data_prep.labelled.examples import TASKS, Example, Labelled
from pipeline.downstream.fine_tune import metrics


def data(task: Any, names: tuple[str, ...], **more: Any) -> Labelled:
    return Labelled(TASKS[task], [], {}, "", "", "", metrics=names, **more)


def test_metrics_that_are_defined_for_all_rows_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Any] = []
    monkeypatch.setattr(metrics, "scores", lambda *given: scored.append(given))
    row = Example(text="a", target="b", score=1.0)
    assert metrics.unscorable(data("text", ("rouge", "bleu")), [row]) == "" and not scored
    assert metrics.unscorable(data("score", ("pearson",)), [row]) == "" and len(scored) == 1
