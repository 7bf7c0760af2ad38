"""From labelled examples and predictions to scores and to the file: every head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_prep.labelled.examples import TASKS, Answer, Example, Head, Labelled
from pipeline.downstream import metrics
from pipeline.downstream.labelled_scores import metrics_of, parts_of, scores_of, tasks_of
from pipeline.downstream.predictions_file import read, write


def labelled(head: Head, examples: list[Example], labels: list[str], **more: Any) -> Labelled:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": examples}
    return Labelled(TASKS[head], labels, splits, "", "", "", **more)


CASES: dict[Head, tuple[Labelled, list[Any], dict[str, float]]] = {
    "class": (
        labelled("class", [Example(label=1, id="a"), Example(label=0, id="b")], ["no", "yes"], metrics=("f1",)),
        [1, None],
        {"f1": pytest.approx(200 / 3)},  # None is the other label of two
    ),
    "score": (
        labelled("score", [Example(score=0.5, id="a"), Example(score=2.0, id="b"), Example(score=1.0, id="c")], []),
        [1.0, 3.0, 2.0],
        {"pearson": pytest.approx(98.19805), "spearman": pytest.approx(100)},
    ),
    "tags": (
        labelled("tags", [Example(words=("a", "b"), tags=(1, 2), id="a")], ["O", "B-A", "I-A"], scheme="BIO"),
        [[1, 0]],
        {"entity-f1": 0, "entity-precision": 0, "entity-recall": 0, "accuracy": 50},
    ),
    "choice": (
        labelled("choice", [Example(choices=("a", "b"), label=1, id="a"), Example(label=0, id="b")], []),
        [1, None],
        {"accuracy": 50},
    ),
    "answer": (
        labelled("answer", [Example("a cat", answers=(Answer("cat", 2),), id="a"), Example("b", id="b")], []),
        ["the cat", "b"],
        {"f1": 50, "exact": 50, "answerable-f1": 100, "answerable-exact": 100, "unanswerable-f1": 0,
         "unanswerable-exact": 0},
    ),
    "text": (
        labelled("text", [Example(target="a b c d", id="a"), Example(answers=(Answer("x"), Answer("y")), id="b")], []),
        ["a b c d", "y"],
        {"rougeL": 100, "rouge1": 100, "rouge2": 50, "rougeLsum": 100},
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", CASES)
def test_scores_of_what_is_kept_are_those_of_what_was_predicted(head: Head, tmp_path: Path) -> None:
    data, predicted, wanted = CASES[head]
    examples = data.splits["test"]
    assert scores_of(data, examples, predicted) == wanted
    write(tmp_path / "p.parquet", tasks_of("t", data), parts_of("t", data, "test", 3, examples, predicted))
    made = read(tmp_path / "p.parquet")
    (part,), task = made.parts, made.tasks["t"]
    assert (part.key, part.ids) == (("t", "test", "", 3), [example.id for example in examples])
    assert metrics.scores(task.metrics, task.head, part.truth, part.predicted, task.labels or None) == wanted


def test_the_best_answers_of_questions_are_kept_with_their_places(tmp_path: Path) -> None:
    data, predicted, _ = CASES["answer"]
    best = [[("the cat", 2, 0.75), ("", None, 0.25)], []]
    made = parts_of("t", data, "test", 3, data.splits["test"], predicted, None, best)
    write(tmp_path / "p.parquet", tasks_of("t", data), made)
    assert read(tmp_path / "p.parquet").parts[0].n_best == best
    places = pq.read_table(tmp_path / "p.parquet")["n_best"].to_pylist()[0]
    assert places[0] == {"text": "the cat", "start": 2, "score": 0.75}


def test_metrics_are_those_that_the_task_names_or_those_of_its_head() -> None:
    tags = CASES["tags"][0]
    assert metrics_of(replace(tags, scheme="")) == ("accuracy",) and metrics_of(tags) == ("entity-f1", "accuracy")
    assert metrics_of(replace(tags, metrics=("accuracy",))) == ("accuracy",)
    answers = CASES["answer"][0]
    assert metrics_of(answers) == ("squad-v2",), "one of them has no answer"
    answerable = {**answers.splits, "test": answers.splits["test"][:1]}
    assert metrics_of(replace(answers, splits=answerable)) == ("squad",)
    for data, _, _ in CASES.values():
        assert metrics.problems(metrics_of(data), data.head) == []


def test_parts_and_languages_are_kept_apart() -> None:
    examples = [
        Example(label=0, id="1", language="de"),
        Example(label=0, id="1", part="mnli-mm"),
        Example(label=1, id="2"),
    ]
    data = labelled("class", examples, ["no", "yes"])
    assert list(tasks_of("mnli", data)) == ["mnli", "mnli-mm"]
    made = parts_of("mnli", data, "test", 0, examples, [0, 1, 1], [0.5, None, 0.25])
    assert [(part.task, part.language, list(part.ids)) for part in made] == [
        ("mnli", "de", ["1"]), ("mnli-mm", "", ["1"]), ("mnli", "", ["2"])
    ]  # fmt: skip
    assert [part.predicted for part in made] == [["no"], ["yes"], ["yes"]] and made[2].scores == [0.25]
    with pytest.raises(ValueError, match="3 examples and 1 predictions"):
        parts_of("mnli", data, "test", 0, examples, [0])
