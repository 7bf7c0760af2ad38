"""What `sesame plan` says of a comparison."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from flows.show import comparison as shown
from pipeline.estimate import estimate
from pipeline.home import Home
from pipeline.recipe.comparison import find
from tests.pipeline.recipe.test_comparison import written


def test_a_plan_is_the_sum_of_its_runs_and_says_what_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def needs(recipe: Any, *_: Any) -> Any:
        asked.append(recipe.train.lr)
        if recipe.train.lr > 1e-3:
            return None
        return SimpleNamespace(seconds=(150.0, 150.0), memory=SimpleNamespace(total=2e9))

    monkeypatch.setattr(estimate, "estimate", needs)
    out = Console(width=200, file=io.StringIO())
    shown.plan(find(written(tmp_path)), Home(tmp_path / "home"), "H100", out)
    printed = out.file.getvalue()  # type: ignore[attr-defined]
    assert asked == [1e-4, 1e-2, 1e-2], "an arm that is priced is priced once"
    rows = [line.split() for line in printed.splitlines() if line.startswith(("slow", "fast"))]
    assert [row[:2] for row in rows] == [["slow", "0"], ["fast", "0"], ["slow", "1"], ["fast", "1"]]
    assert "ingest, tokenizer, shards, pretrain, verbs, report" in printed
    assert printed.count("known when the shards are made") == 2
    assert "4 runs, one after another: 5 min of pretraining, and 2 runs whose shards are not made yet" in printed
