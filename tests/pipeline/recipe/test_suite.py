"""Recipes of suites: a job for each task that is there, what is refused, and what is said of what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import UserError
from data_prep.labelled.suite import open_suite
from pipeline import dag, downstream
from pipeline.downstream.fine_tune.checks import BASELINES
from pipeline.recipe import suite
from pipeline.recipe.load import load, namesake
from pipeline.recipe.recipe import Evaluation
from tests.pipeline.suite_files import touch

ROWS = "index\tsentence1\tsentence2\tlabel\n0\ta b\tc\tentailment\n1\td\ta\tnot_entailment\n"
SCORED = "index\tsentence1\tsentence2\tlabel\n0\ta c\tc\tentailment\n1\td c\ta\tnot_entailment\n"
HIDDEN = "index\tsentence1\tsentence2\n0\ta\tc\n1\td\tb\n"


@pytest.fixture
def rte(tmp_path: Path) -> Path:
    """A folder with one task of GLUE."""
    for name, text in (("train", ROWS), ("dev", SCORED), ("test", HIDDEN)):
        path = tmp_path / "glue" / "RTE" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "glue"


def glue(folder: Path, *settings: str) -> Evaluation:
    loaded = load("glue", "tiny", [f"suite.folder={folder}", *settings])
    assert isinstance(loaded, Evaluation)
    return loaded


def test_every_task_that_is_there_is_a_job_of_its_head(tmp_path: Path) -> None:
    touch("glue", tmp_path)
    loaded = glue(tmp_path, "suite.changes.rte.lrs=[3e-5]")
    kinds = {job.name: job.task for job in loaded.downstream}
    assert list(kinds) == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
    assert kinds.pop("stsb") == "regression" and set(kinds.values()) == {"classification"}
    jobs = {job.name: job for job in loaded.downstream}
    assert jobs["stsb"].baselines == list(BASELINES["regression"]) and jobs["rte"].lrs == [3e-5] != jobs["cola"].lrs
    assert (jobs["rte"].data.suite, jobs["rte"].data.of, jobs["rte"].data.folder) == ("glue", "rte", str(tmp_path))
    assert suite.remarks(loaded) == [] and not list(namesake(loaded))
    later = glue(tmp_path, "suite.changes.rte.steps=7", "suite.job.steps=9", "suite.changes.wnli.steps=8")
    assert [job.steps for job in later.downstream] == [9] * 8 + [8], "what is set last counts"
    asked = glue(tmp_path, "suite.tasks=[wnli, cola]")
    assert [job.name for job in asked.downstream] == ["wnli", "cola"]
    touch("squad", tmp_path)
    questions = load("squad", None, [f"suite.folder={tmp_path}"])
    assert {job.task for job in questions.downstream} == {"question-answering"}


def test_what_is_missing_is_said_before_anything_runs(rte: Path) -> None:
    loaded = glue(rte)
    assert [job.name for job in loaded.downstream] == ["rte"]
    assert suite.remarks(loaded)[:2] == [
        f"cola is missing: {rte} lacks CoLA/train.tsv, CoLA/dev.tsv, CoLA/test.tsv",
        f"sst2 is missing: {rte} lacks SST-2/train.tsv, SST-2/dev.tsv, SST-2/test.tsv",
    ]
    assert suite.remarks(glue(rte, "suite.tasks=[rte]")) == []
    (rte / "RTE" / "test.tsv").unlink()
    assert suite.remarks(loaded)[-1] == "rte does without RTE/test.tsv"


def test_a_task_without_rows_to_learn_from_is_missing(rte: Path) -> None:
    (rte / "CoLA").mkdir()
    (rte / "CoLA" / "dev.tsv").write_text("a\t1\t\tb c\nd\t0\t*\te\n")
    loaded = glue(rte)
    assert [job.name for job in loaded.downstream] == ["rte"]
    assert f"cola is missing: {rte} lacks CoLA/train.tsv, CoLA/test.tsv" in suite.remarks(loaded)
    with pytest.raises(UserError, match=r"lacks CoLA/train\.tsv"):
        glue(rte, "suite.tasks=[cola]")
    assert "cola" in open_suite("glue", rte).tasks, "it can be scored, by a job that learns nothing"


def test_a_resolved_recipe_keeps_its_jobs(rte: Path, tmp_path: Path) -> None:
    loaded = glue(rte, "suite.changes.rte.steps=7")
    assert loaded.suite is not None and loaded.suite.job == loaded.suite.changes == {}
    path = tmp_path / "resolved.yaml"
    path.write_text(loaded.to_yaml())
    assert load(path) == loaded and loaded.downstream[0].steps == 7
    touch("glue", rte)
    assert load(path) == loaded, "a file that came later makes no other run of it"
    assert load(path, None, ["downstream.0.steps=8"]).downstream[0].steps == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["suite.folder=null"], r"glue.yaml: suite.folder: missing; .*gluebenchmark.com.*--set suite.folder=…"),
        (["suite.folder=/none"], "suite: /none: there is no such folder"),
        (["suite.tasks=[mnli]"], r"suite: glue: .* lacks MNLI/train.tsv"),
        (["suite.tasks=[rtee]"], "no task is called 'rtee'.*did you mean rte"),
        (["suite.changes.rtee.steps=3"], "suite.changes.rtee: no such task; .*did you mean rte"),
        (["suite.job.steps=0"], "--set suite.job.steps: found 0; allowed: at least 1"),
        (["suite.changes.rte.length=2"], "--set suite.changes.rte.length: found 2; allowed: at least 4"),
        (["suite.job.stepz=3"], "--set suite.job.stepz: unknown key"),
        (["suite.changes.rte=3"], "--set suite.changes.rte: found 3; allowed: a section of keys"),
        (["suite.name=gleu"], "no suite is called 'gleu'.*did you mean glue"),
    ],
)
def test_what_cannot_be_is_refused_by_the_key_that_the_user_wrote(rte: Path, settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        glue(rte, *settings)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("suite.job.steps=3", "suite.job: downstream has the suite's jobs already; set it there"),
        ("suite.folder=/tmp", "downstream.0.data.folder: found '.*', and suite.folder is '/tmp'"),
        ("suite.tasks=[cola]", "suite.tasks: names cola, and the jobs of downstream are of rte"),
    ],
)
def test_what_does_not_fit_the_jobs_of_a_resolved_recipe_is_refused(
    rte: Path, tmp_path: Path, setting: str, message: str
) -> None:
    path = tmp_path / "resolved.yaml"
    path.write_text(glue(rte).to_yaml())
    with pytest.raises(UserError, match=message):
        load(path, None, [setting])


def test_a_suite_of_ones_own_and_a_job_beside_it(rte: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    task = {"train": "RTE/train.tsv", "validation": "RTE/dev.tsv", "inputs": ["sentence1"], "metrics": ["macro-f1"]}
    own.write_text(yaml.safe_dump({"about": "mine", "tasks": {"Sentence_One": task}}))
    job: dict[str, Any] = {
        "labels": [4], "steps": 2, "batch": 2, "length": 16, "lrs": [1e-3], "validation_rows": 4, "test_rows": 4,
    }  # fmt: skip
    recipe = {
        "name": "mine",
        "init": {"folder": None, "model": "minilm"},
        "suite": {"name": str(own), "folder": str(rte), "job": job},
        "downstream": [{"name": "marks", "task": "tagging", "data": {"name": "brown-pos"}, **job}],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    loaded = load(path)
    assert [job.name for job in loaded.downstream] == ["sentence-one", "marks"]
    assert loaded.downstream[0].data.files()[0] == own
    before = downstream.config_of(loaded, loaded.downstream[0], tmp_path)
    assert before["task"]["metrics"] == ["macro-f1"] and len(before["contents"]) == 3
    own.write_text(yaml.safe_dump({"about": "mine", "tasks": {"Sentence_One": {**task, "metrics": ["accuracy"]}}}))
    assert downstream.config_of(loaded, loaded.downstream[0], tmp_path) != before, "the key is of the task's settings"


def test_without_a_suite_there_is_no_such_section() -> None:
    loaded = load("finetune")
    assert "suite" not in loaded.resolved() and "suite" not in loaded.science() and suite.opened(loaded) is None
    with pytest.raises(UserError, match="init: the network of minilm"):
        dag.nodes(loaded, Path())
