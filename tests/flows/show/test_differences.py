"""`sesame compare`: runs, jobs of runs, and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from flows.show import differences
from pipeline import runs as records
from pipeline.downstream.predictions_file import FILE, Predictions, write
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.reports import report
from pipeline.reports.report import Report, Table
from pipeline.stage import Context, Stage
from tests.pipeline import tiny_arrays
from tests.pipeline.predicted import part, predictions


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SESAME_STORE", raising=False)
    return Home(tmp_path / "home")


def made(home: Home, folder: Path, jobs: dict[str, Predictions | None]) -> str:
    """The id of a run with these jobs, some of which have predictions."""

    def job(config: dict[str, Any], inputs: dict[str, Any], out: Path, context: Context) -> dict[str, Any]:
        predicted = jobs[config["job"]]
        if predicted is not None:
            write(out / FILE, predicted.tasks, predicted.parts)
        table = Table("Scores", ["a"], [["1"]])
        made_report = Report("job", "About.", [table], [], "Done.", {}, predictions=FILE if predicted else None)
        report.write(made_report, out)
        return {}

    def summed_up(config: dict[str, Any], inputs: dict[str, Any], out: Path, context: Context) -> dict[str, Any]:
        (out / report.FILE).write_text('{"jobs": []}')  # a run's own report, which is none of a job
        return {}

    with records.begin(home.runs, load(tiny_arrays.recipe(folder))) as run:
        whole = home.store().produce(Stage("report", 1, summed_up), {"run": run.run_id})[0]
        run.note("report", whole, reused=False, seconds=1.0)
        for name in jobs:
            config = {"job": name, "run": run.run_id}
            run.note(name, home.store().produce(Stage("job", 1, job), config)[0], reused=False, seconds=1.0)
        run.status = records.DONE
        records.save(home.runs, run)
    return run.run_id


def test_two_runs_beside_each_other(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = made(home, tmp_path, {"reviews": predictions(part(0.7)), "other": None})
    new = made(home, tmp_path, {"reviews": predictions(part(0.85, draw=2))})
    differences.show([old, new], False)
    printed = capsys.readouterr().out
    assert "reviews (test)" in printed and "+15.00" in printed and "McNemar's test" in printed
    assert f"{new} is better than {old} by 15.00 points of accuracy" in " ".join(printed.split())
    differences.show([old, "last"], True)
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["lines"][1]["difference"]["value"] == pytest.approx(15) and comparison["left_out"] == []


def test_a_job_of_a_run_and_a_file(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(home, tmp_path, {"a": predictions(part(0.7)), "b": predictions(part(0.72, draw=2))})
    with pytest.raises(UserError, match=f"by more than one job; name one as {run}/JOB: jobs .* are: a, b"):
        differences.show([run, run], False)
    file = tmp_path / "mine.parquet"
    third = predictions(part(0.7, draw=3), part(0.5, task="films"))
    write(file, third.tasks, third.parts)
    differences.show([f"{run}/a", "last/b", str(file)], False)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"No significant difference from {run}/a" in printed and "mine.parquet on reviews (test)" in printed
    assert f"{file} has predictions for films (test), but not all runs do." in printed


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["no-such", "last"], "no run is called 'no-such'"),
        (["last/none", "last"], "has no predictions by a job 'none'; jobs with predictions are: a"),
        (["last", "last"], "last, last: name each run once, and two at least"),
        (["last", "no.parquet"], "no.parquet: there is no such file of predictions"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(home: Home, tmp_path: Path, names: list[str], problem: str) -> None:
    made(home, tmp_path, {"a": predictions(part(0.7))})
    with pytest.raises(UserError) as refused:
        differences.show(names, False)
    assert problem in str(refused.value) and refused.value.exit_code == 2  # type: ignore[attr-defined]


def test_a_run_without_predictions_says_so(home: Home, tmp_path: Path) -> None:
    made(home, tmp_path, {"a": None})
    with pytest.raises(UserError, match="has no predictions: none of its jobs has finished"):
        differences.show(["last", "other.parquet"], False)
