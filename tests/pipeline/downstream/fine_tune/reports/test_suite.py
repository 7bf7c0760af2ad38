"""The table of a suite: its rows, columns and score, what is said under it, and where it is shown."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from data_prep.labelled.examples import Example, Labelled
from data_prep.labelled.suite import read_suite
from flows.show.summary import summarise
from pipeline.downstream.fine_tune import metrics
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.downstream.fine_tune.reports import suite
from pipeline.downstream.metrics import METRICS
from pipeline.downstream.metrics.suite import glue_score
from pipeline.reports.report import Report, Table, page, write
from pipeline.runs import Run, StageRecord
from pipeline.stage import Context
from pipeline.stages import report as stage
from pipeline.tracking import pages

SCORES = {  # of each job by model, by metric and seed
    "cola": {"pretrained": {"matthews": [0.5, 0.6]}, "scratch": {"matthews": [0.0, 0.1]}},
    "mrpc": {
        "pretrained": {"accuracy": [0.8, 0.9], "f1": [0.9, 0.8]},
        "scratch": {"accuracy": [0.6, 0.6], "f1": [0.7, 0.7]},
    },
    "mnli": {
        "pretrained": {"accuracy": [0.7, 0.7], "accuracy/mnli": [0.8, 0.8], "accuracy/mnli-mm": [0.6, 0.6]},
        "scratch": {"accuracy": [0.4, 0.4], "accuracy/mnli": [0.4, 0.4], "accuracy/mnli-mm": [0.4, 0.4]},
    },
}
BASELINES = {"cola": {"majority": [0.0, 0.0], "tfidf": [0.2, 0.2]}, "mrpc": {}, "mnli": {"majority": [0.3, 0.3]}}
METRIC = {"cola": "matthews", "mrpc": "accuracy", "mnli": "accuracy"}


def cell(model: str, kind: str, by_metric: dict[str, list[float]], metric: str, labels: int = 100) -> dict[str, Any]:
    seeds = range(len(by_metric[metric]))
    return {
        "model": model, "kind": kind, "labels": labels, "scores": by_metric[metric], "lr": 1e-3, "tried": {},
        "all": [{name: values[seed] for name, values in by_metric.items()} for seed in seeds],
        "mean": statistics.fmean(by_metric[metric]), "std": 0.0,
    }  # fmt: skip


def job(name: str) -> Report:
    metric = METRIC[name]
    cells = [cell(model, "network", by_metric, metric) for model, by_metric in SCORES[name].items()]
    fewer = {key: [0.99, 0.99] for key in SCORES[name]["pretrained"]}
    cells.append(cell("pretrained", "network", fewer, metric, labels=10))
    for model, values in BASELINES[name].items():
        parts = {f"accuracy/{part}": values for part in ("mnli", "mnli-mm")} if name == "mnli" else {}
        cells.append(cell(model, "baseline", {metric: values, **parts}, metric))
    notes = {
        "cells": cells, "metric": metric, "split": "validation", "rows": {"train": 100, "validation": 50, "test": 0},
        "test_rows": 40 if name == "cola" else 50, "parts": ["mnli", "mnli-mm"] if name == "mnli" else [],
    }  # fmt: skip
    return Report(
        name, "How.", [Table("Scores", ["model"], [["**pretrained**"]])], [], f"{name} is good.", {}, notes=notes
    )


def about(**changes: Any) -> dict[str, Any]:
    settings = read_suite("glue")
    return {
        "name": "glue",
        "about": settings.about,
        "average": settings.average,
        "published": [row.model_dump(mode="json") for row in settings.published],
        "missing": ["sst2", "qqp"],
        "metrics": {name: task["metrics"] for name, task in settings.tasks.items()},
        "tasks": {"cola": "cola", "mrpc": "mrpc", "mnli": "mnli"},
        **changes,
    }


REPORTS = {name: job(name) for name in SCORES}


def test_one_row_for_each_model_and_published_ones_beside() -> None:
    made = suite.build(about(), {**REPORTS, "other": job("cola")})
    table = made.tables[0]
    assert table.columns == [
        "model", "cola (matthews)", "mrpc (accuracy / f1)", "mnli (accuracy)", "mnli-mm (accuracy)", "score", "source",
    ]  # fmt: skip
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows)[:3] == ["**pretrained**", "scratch", "best baseline"]
    assert rows["**pretrained**"][:4] == ["55.0 ± 7.1", "85.0 ± 7.1 / 85.0 ± 7.1", "80.0 ± 0.0", "60.0 ± 0.0"]
    assert rows["best baseline"] == [
        "20.0 ± 0.0 (tfidf)",
        "–",
        "30.0 ± 0.0 (majority)",
        "30.0 ± 0.0 (majority)",
        "–",
        "",
    ]
    assert rows["people"] == ["66.4", "80.8 / 86.3", "92.0", "92.8", "87.1", "Nangia and Bowman 2019; test"]
    assert rows["BERT-base"][:-1] == ["52.1", "– / 88.9", "84.6", "83.4", "–"]
    assert made.notes == {"jobs": list(SCORES)} and "**pretrained**" in page(made)


def test_the_score_is_glues_of_the_means_with_the_spread_of_seeds() -> None:
    made = suite.build(about(), REPORTS)
    means = {"cola": {"matthews": 55.0}, "mrpc": {"accuracy": 85.0, "f1": 85.0}}
    means |= {"mnli": {"accuracy": 80.0}, "mnli-mm": {"accuracy": 60.0}}
    expected = glue_score(means, "validation", 2)
    assert made.numbers["glue/pretrained"] == pytest.approx(expected.score) == pytest.approx(70.0)
    assert set(made.numbers) == {"glue/pretrained", "glue/scratch"}
    assert made.tables[0].rows[0][-2] == "70.0 ± 2.4"  # (50 + 85 + 70) / 3 and (60 + 85 + 70) / 3
    assert made.verdict.startswith(expected.protocol) and "Without WNLI" in made.verdict
    for said in (
        "means of 2 seeds", "Not all rows were used: cola 40 of 50 of validation.",
        "Tasks that the folder lacks: sst2, qqp.", "BERT-base: WNLI is left out",
    ):  # fmt: skip
        assert said in made.verdict


def test_a_suite_without_a_score_of_its_own_has_none() -> None:
    made = suite.build(about(average="", published=[], missing=[]), REPORTS)
    assert made.tables[0].columns[-2] == "mnli-mm (accuracy)" and made.numbers == {}
    assert made.verdict == (
        "Cells are means ± standard deviations of 2 seeds. Not all rows were used: cola 40 of 50 of validation."
    )
    one = suite.build(about(average="tasks", name="mine"), {"cola": job("cola")})
    assert one.numbers["mine/pretrained"] == pytest.approx(55.0) and "1 of 9 tasks of mine" in one.verdict
    more = suite.build(about(average="tasks", name="mine", lacks=["chid", "c3"]), {"cola": job("cola")})
    assert more.numbers == one.numbers and "1 of 11 tasks of mine" in more.verdict and "wnli, chid, c3." in more.verdict


def test_questions_are_counted_by_exact_match_and_f1() -> None:
    scores = {"exact": [0.5], "f1": [0.6], "HasAns_f1": [0.7]}
    notes = {**job("cola").notes, "cells": [cell("pretrained", "network", scores, "f1")], "metric": "f1"}
    asked = Report("squad2", "", [], [], "", {}, notes=notes)
    made = suite.build(
        about(name="squad", average="", metrics={"squad2": ["squad-v2"]}, tasks={"squad2": "squad2"}), {"squad2": asked}
    )
    assert made.tables[0].columns == ["model", "squad2 (exact / f1)", "source"]
    assert made.tables[0].rows[0] == ["**pretrained**", "50.0 / 60.0", ""] and METRICS["cmrc"].note not in made.verdict
    chinese = about(name="cmrc", average="", metrics={"cmrc": ["cmrc"]}, tasks={"squad2": "cmrc"})
    assert METRICS["cmrc"].note in suite.build(chinese, {"squad2": asked}).verdict


def test_it_is_first_on_the_page_in_mlflow_and_in_the_terminal(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("init", *REPORTS, "report")}
    for name, folder in folders.items():
        folder.mkdir()
        if name in REPORTS:
            write(REPORTS[name], folder)
    summary = {"architecture": "bert", "parameters": 1234, "vocabulary": 8}
    inputs: dict[str, Any] = {
        name: SimpleNamespace(key=f"{name}-1", path=folders[name], stage="job", summary={}) for name in REPORTS
    }
    inputs["init"] = SimpleNamespace(key="init-1", path=folders["init"], stage="init", summary=summary)
    config = {"name": "glue", "title": "GLUE", "reproduces": "x", "scale": "tiny", "kind": "text", "suite": about()}
    done = stage.run(config, inputs, folders["report"], Context(tmp_path))
    assert done["glue/pretrained"] == pytest.approx(70.0)
    text = (folders["report"] / "report.md").read_text()
    assert text.index("70.0 ± 2.4") < text.index("In one sentence") < text.index("cola is good")
    made = stage.suite_in(folders["report"])
    assert (
        made is not None
        and json.loads((folders["report"] / "tables" / "glue.json").read_text())["columns"][0] == "model"
    )

    network = SimpleNamespace(architecture="bert")
    recipe = SimpleNamespace(
        name="glue", title="", scale="tiny", reproduces="x", network=network, init=SimpleNamespace(folder="f")
    )
    described = pages.of_flow(recipe, None, REPORTS, made)
    assert described.index("70.0 ± 2.4") < described.index("mnli is good") and described.count("---") == 7

    run = Run("glue-1", "glue", "tiny")
    run.stages = {name: StageRecord(f"{name}-1", str(folder), False, 1.0) for name, folder in folders.items()}
    console = Console(width=200, record=True)
    summarise(run, console)
    said = console.export_text()
    assert "glue: scores in percent" in said and "70.0 ± 2.4" in said and "Without WNLI" in said
    assert "cola  cola is good." in said and "cola: scores" not in said


def test_rows_of_parts_and_languages_are_scored_apart() -> None:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    data = Labelled("classification", ["a", "b"], splits, "made up", "CC0-1.0", "none")
    rows = [Example(text="t", label=0, part=part, language=language) for part in ("x", "") for language in ("de", "en")]
    answers = Predicted([0, 1, 0, 1], [None] * 4)
    assert metrics.scores_of_parts(data, rows, answers) == {"accuracy/x": 0.5, "accuracy/de": 1.0, "accuracy/en": 0.0}
    assert metrics.scores_of_parts(data, rows[2:3], Predicted(answers.answers[2:3], [None])) == {}
    parts = [replace(row, part=part) for part in ("x", "en") for row in rows[:2]]
    assert metrics.scores_of_parts(data, parts, answers) == {
        "accuracy/x": 0.5, "accuracy/en": 0.5, "accuracy/de": 1.0, "accuracy/language-en": 0.0,
    }  # fmt: skip
    assert metrics.language_name("en", {"en", "language-en"}) == "language-language-en"


def test_parts_for_which_a_metric_is_not_defined_have_no_score() -> None:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    data = Labelled("regression", [], splits, "made up", "CC0-1.0", "none", metrics=("pearson",))
    rows = [
        Example(score=score, part=part) for score, part in ((1, "x"), (2, "x"), (3, "one"), (5, "same"), (5, "same"))
    ]
    answers = Predicted([1.0, 2.0, 3.0, 4.0, 5.0], [None] * 5)
    assert metrics.scores_of_parts(data, rows, answers) == {"pearson/x": pytest.approx(1.0)}
    assert metrics.undefined(data, rows) == {
        "one": "the only row has the score 3; a correlation needs different ones.",
        "same": "all 2 rows have the score 5; a correlation needs different ones.",
    }
    values = [{**metrics.scores(data, rows, answers), **metrics.scores_of_parts(data, rows, answers)}]
    scores = [each["pearson"] for each in values]
    cells = [{"model": "pretrained", "kind": "network", "labels": 4, "scores": scores, "all": values, "mean": 0.9}]
    notes = {
        "cells": cells, "metric": "pearson", "split": "test", "rows": {"train": 4, "test": 5}, "test_rows": 5,
        "parts": ["x", "one", "same"],
    }  # fmt: skip
    scored = Report("stsb", "", [], [], "", {}, notes=notes)
    settings = {"metrics": {"stsb": ["pearson"]}, "tasks": {"stsb": "stsb"}, "missing": [], "published": []}
    made = suite.build(about(average="", **settings), {"stsb": scored})
    assert made.tables[0].columns == ["model", "x (pearson)", "one (pearson)", "same (pearson)", "source"]
    assert made.tables[0].rows == [["**pretrained**", "100.0", "–", "–", ""]]
    assert made.verdict == "Cells are of one seed, whose spread is not known."
