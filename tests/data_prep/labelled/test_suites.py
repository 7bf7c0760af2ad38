"""Packaged suites load what their files hold, and say which tasks a folder lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_prep.errors import UserError
from data_prep.labelled.suite import SUITES, Suite, load_suite, open_suite
from data_prep.labelled.task import Part, TaskFile, fields_of
from pipeline.downstream.metrics import problems

ROWS = 4
FOLDER = Path(__file__).parents[3] / "data_prep" / "labelled" / "suites"
SCORES = {"accuracy", "f1", "matthews", "pearson", "spearman", "exact", "entity-f1"}
UNPUBLISHED = {"sentences"}  # no figures of others come with it


def columns_of(task: TaskFile, part: Part, is_labelled: bool) -> list[str]:
    """The columns that a task's rows need."""
    given = part.inputs or task.inputs
    inputs = [name for each in given for name in (fields_of(each) if "{" in each else [each])]
    own = [task.choices] if isinstance(task.choices, str) else []
    languages = [str(part.language)] if part.language == "language" else []
    ids = filter(None, [part.id or task.id])
    return [*inputs, *own, *languages, *ids, *[part.label or task.label] * is_labelled]


def cell(task: TaskFile, name: str, number: int) -> object:
    """A value that suits a column."""
    labels = list(task.classes) or ["one", "two"]
    if name == task.choices:
        return ["left", "right"]
    if name in {task.id, *(part.id for part in task.predict)}:
        return number
    if name in {task.label, *(part.label for part in task.train)}:
        return {"score": 1.5, "choice": 1}.get(task.predicts, labels[number % len(labels)])
    return f"{name} of row {number}"


def nested(row: dict[str, object]) -> dict[str, object]:
    """A row with `a.b` as b of an object a."""
    outer = {name.partition(".")[0] for name in row if "." in name}
    inner = {key: {name.partition(".")[2]: row[name] for name in row if name.startswith(f"{key}.")} for key in outer}
    return {name: value for name, value in row.items() if "." not in name} | inner


def write(task: TaskFile, folder: Path) -> None:
    """Small files of every split of a task, laid out as it says."""
    for split in ("train", "validation", "test", "predict"):
        for part in task.parts(split):
            path = folder / part.path.replace("*", "_")
            path.parent.mkdir(parents=True, exist_ok=True)
            wanted = columns_of(task, part, split != "predict")
            rows = [{name: cell(task, name, number) for name in wanted} for number in range(ROWS)]
            header = task.columns if part.columns is None else part.columns
            if task.layout == "squad":
                answers = [{"text": "two", "answer_start": 4}]
                questions = [{"id": str(number), "question": "Which?", "answers": answers} for number in range(ROWS)]
                paragraphs = [{"context": f"one two of {asked['id']}", "qas": [asked]} for asked in questions]
                path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
            elif task.layout == "tokens":
                path.write_text("\n\n".join(f"It{number} X\nis Y" for number in range(ROWS)))
            elif path.suffix == ".tsv" or task.separator:
                names = header or ["more", *wanted]
                delimiter = task.separator or "\t"
                lines = [delimiter.join(str(row.get(name, '"')) for name in names) for row in rows]
                path.write_text("\n".join([*([] if header else [delimiter.join(names)]), *lines]))
            else:
                path.write_text("\n".join(json.dumps(nested(row)) for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every task of the packaged suites, in a folder of its own: folder / suite / task."""
    top = tmp_path_factory.mktemp("suites")
    for name in SUITES:
        path = FOLDER / f"{name}.yaml"
        values = yaml.safe_load(path.read_text())
        for task, settings in values["tasks"].items():
            plain = {**values.get("common", {}), **settings}
            for key in ("labels", "choices"):
                if isinstance(plain.get(key), dict):
                    plain[key] = {str(label): words for label, words in plain[key].items()}
            write(TaskFile(**plain), top / name / task)
    return top


TASKS = [(name, task) for name in SUITES for task in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["tasks"]]


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_every_task_of_a_packaged_suite_loads(name: str, task: str, folder: Path) -> None:
    suite = open_suite(name, folder / name / task)
    assert task in suite.tasks and task not in suite.absent
    data = suite.load(task)
    assert data.description and data.metrics and not problems(data.metrics, data.head)
    counts = {split: ROWS * len(list(suite.tasks[task].parts(split))) for split in data.splits}
    if not counts["validation"]:  # a share of train is held out
        counts["validation"] = len(data.splits["validation"])
        counts["test"] = counts["test"] or len(data.splits["test"])
        counts["train"] -= counts["validation"] + (0 if suite.tasks[task].test else counts["test"])
        assert counts["validation"]
    assert {split: len(data.splits[split]) for split in data.splits} == counts


def test_a_file_of_one_class_and_a_line_of_a_label_and_a_question(folder: Path) -> None:
    splits = open_suite("sentences", folder / "sentences" / "polarity").load("polarity").splits
    kept = [example for split in ("train", "validation", "test") for example in splits[split]]
    assert {(example.label, example.place.rpartition(":")[0][-3:]) for example in kept} == {(0, "neg"), (1, "pos")}
    data = open_suite("sentences", folder / "sentences" / "trec").load("trec")
    assert data.splits["test"][0].text == "question of row 0" and data.labels[0] == "abbreviation"


@pytest.mark.parametrize("name", SUITES)
def test_published_scores_are_of_tasks_and_metrics_that_there_are(name: str, folder: Path) -> None:
    tasks = {path.name: open_suite(name, path).tasks[path.name] for path in (folder / name).iterdir()}
    suite = replace(open_suite(name, next((folder / name).iterdir())), tasks=tasks, missing={})
    assert suite.published or name in UNPUBLISHED
    parts = {"mnli", "mnli-mm"}
    for row in suite.published:
        assert row.source and (row.scores or row.average)
        assert {place.partition("/")[0] for place in row.scores} <= {*suite.tasks, *suite.missing, *parts}
        for task, _, language in (place.partition("/") for place in row.scores if "/" in place):
            asked = suite.tasks[task]
            said = [part.language for part in (*asked.parts("test"), *asked.parts("predict"))]
            assert language in said or "language" in said, "in all rows of a file, or in a column of that name"
        for scores in row.scores.values():
            assert set(scores) <= SCORES and all(0 < score <= 100 for score in scores.values())


def test_cmrc_is_reported_on_the_rows_that_others_report(folder: Path) -> None:
    suite = open_suite("cmrc", folder / "cmrc" / "cmrc")
    assert [part.path for part in suite.tasks["cmrc"].test] == ["cmrc2018_dev.json"]
    (folder / "cmrc" / "cmrc" / "cmrc2018_trial.json").rename(folder / "trial.json")
    data = open_suite("cmrc", folder / "cmrc" / "cmrc").load("cmrc")
    assert data.reported == "test" and data.splits["test"][0].place.startswith("cmrc2018_dev.json")
    assert data.splits["validation"], "a share of train, where trial is not there"
    (folder / "trial.json").rename(folder / "cmrc" / "cmrc" / "cmrc2018_trial.json")


def test_mnli_has_two_sets_that_are_told_apart(folder: Path) -> None:
    data = load_suite("glue", folder / "glue" / "mnli", ["mnli"])["mnli"]
    assert {example.part for example in data.splits["validation"]} == {"mnli", "mnli-mm"}
    assert data.splits["predict"][0].label == -1 and data.labels == ["entailment", "neutral", "contradiction"]


def some_of_glue(folder: Path, *files: str) -> Suite:
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("sentence\tlabel\nfine\t1\nbad\t0\n")
    return open_suite("glue", folder)


def test_missing_tasks_and_files_are_named(tmp_path: Path) -> None:
    suite = some_of_glue(tmp_path, "SST-2/train.tsv", "SST-2/dev.tsv", "CoLA/train.tsv")
    assert list(suite.tasks) == ["sst2"] and "cola" in suite.missing
    said = suite.remarks()
    assert f"cola is missing: {tmp_path} lacks CoLA/dev.tsv, CoLA/test.tsv" in said
    assert "sst2 does without SST-2/test.tsv" in said
    assert any(text.startswith("mnli is missing") and text.endswith(" and 3 more") for text in said)
    assert len(suite.load("sst2").splits["validation"]) == 2
    with pytest.raises(UserError, match=r"glue: .* lacks CoLA/dev\.tsv"):
        suite.load("cola")
    with pytest.raises(UserError, match=r"no task is called 'sst'; .* did you mean sst2"):
        suite.load("sst")


def test_a_train_file_without_its_validation_is_no_task(tmp_path: Path) -> None:
    """No share of train stands for rows that everybody else is scored on."""
    with pytest.raises(UserError, match=r"has no task of glue: of cola, for one, no CoLA/dev\.tsv"):
        some_of_glue(tmp_path, "CoLA/train.tsv")


def test_a_folder_of_another_suite_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"no task of clue: .*; it has tasks of fewclue"):
        open_suite("clue", folder / "fewclue" / "bustm")
    with pytest.raises(UserError, match="there is no such folder; name the one with the files of glue"):
        open_suite("glue", tmp_path / "none")


def test_suites_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\nu,1\nv,0\n")
    suite = {"about": "mine", "common": {"inputs": ["x"]}, "tasks": {"a": {"validation": "a.csv"}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(suite))
    assert list(load_suite(str(path), tmp_path)) == ["a"]
    path.write_text(yaml.safe_dump({**suite, "tasks": {"a": {"validaton": "a.csv"}}}))
    with pytest.raises(UserError, match=r"mine\.yaml: tasks\.a\.validaton: unknown key; .*did you mean validation"):
        open_suite(str(path), tmp_path)
    path.write_text(yaml.safe_dump({**suite, "tasks": {}}))
    with pytest.raises(UserError, match=r"mine\.yaml\.tasks: found"):
        open_suite(str(path), tmp_path)
    with pytest.raises(UserError, match=r"no suite is called 'gleu'; .*did you mean glue"):
        open_suite("gleu", tmp_path)
