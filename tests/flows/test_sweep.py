"""Sweeps: combinations, the table, and a true one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data_prep.errors import UserError
from flows import sweep
from flows.sweep import Trial, combinations
from pipeline.home import Home
from pipeline.reports import data
from pipeline.runs import Run, StageRecord
from tests.flows.test_end_to_end import sesame
from tests.pipeline import tiny


def test_every_combination() -> None:
    trials = combinations(["train.lr=1e-3, 1e-2", "seed=0,1"])
    assert trials == [
        {"train.lr": "1e-3", "seed": "0"},
        {"train.lr": "1e-3", "seed": "1"},
        {"train.lr": "1e-2", "seed": "0"},
        {"train.lr": "1e-2", "seed": "1"},
    ]


@pytest.mark.parametrize("over", ["train.lr", "train.lr=", "=1,2", "train.lr=1,,2", "train.lr=1,1"])
def test_what_is_no_list_of_values_is_refused(over: str) -> None:
    with pytest.raises(UserError, match="--over"):
        combinations([over])


def test_the_lowest_loss_is_the_best_and_failures_are_told() -> None:
    trials = [
        Trial({"train.lr": "1e-3"}, "pretrain-a", 4.5, 1000.0),
        Trial({"train.lr": "1e-2"}, "pretrain-b", 4.25, 1000.0),
        Trial({"train.lr": "1"}, error="the loss is not finite"),
    ]
    page = sweep.page("tiny", trials)
    assert "Lowest held-out loss: lr 1e-2." in page and "| tokens/s |" in page
    assert "| 1 | – | – | the loss is not finite |" in page


def test_pictures_are_told_as_pictures() -> None:
    page = sweep.page("tiny", [Trial({"seed": "0"}, error="no"), Trial({"seed": "1"}, "a", 4.5, 1000.0, "images")])
    assert "| images/s |" in page and "| 1 | 4.5000 | 1,000 | a |" in page


def test_one_that_fails_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(data, "sweep", lambda *given: drawn.append(given))
    artifact = tmp_path / "made"
    artifact.mkdir()
    lines = [{"step": step, "train/loss": 5 - step / 10, "validation/loss": 5 - step / 20} for step in range(1, 9)]
    (artifact / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def make(settings: list[str]) -> Run:
        if settings == ["train.lr=9"]:
            raise UserError("the loss is not finite")
        run = Run("r", "tiny", None)
        run.stages["pretrain"] = StageRecord("pretrain-x", str(artifact), False, 1.0)
        run.metrics["pretrain.validation/loss"] = 4.6
        return run

    trials = combinations(["train.lr=9,1e-3"])
    folder = sweep.sweep(Home(tmp_path / "home"), "tiny", trials, make, Console(quiet=True))
    failed, fine = json.loads((folder / "sweep.json").read_text())
    assert failed["error"] == "the loss is not finite" and failed["score"] is None
    assert fine["score"] == 4.6 and fine["artifact"] == "pretrain-x"
    ((curves, scores, path),) = drawn
    assert path == folder / "sweep.png" and scores == {"lr 1e-3": 4.6}
    assert {label: [record["step"] for record in records] for label, records in curves.items()} == {
        "lr 1e-3": list(range(1, 9))
    }


@pytest.mark.slow
def test_a_true_sweep_makes_the_data_once(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    done = sesame(tmp_path, "sweep", str(recipe), "--over", "train.lr=1e-4,1e-2", "--json")
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    scores = [trial["score"] for trial in outcome["trials"]]
    assert len(set(scores)) == 2 and all(score is not None for score in scores)
    store = tmp_path / "home" / "store"
    assert len(list(store.glob("shards-*"))) == 1
    assert len(list(store.glob("pretrain-*/manifest.json"))) == 2
    again = json.loads(
        sesame(tmp_path, "sweep", str(recipe), "--over", "train.lr=1e-4,1e-2", "--json").stdout.splitlines()[-1]
    )
    assert [trial["artifact"] for trial in again["trials"]] == [trial["artifact"] for trial in outcome["trials"]]
