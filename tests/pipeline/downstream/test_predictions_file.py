"""The file of predictions: what is written is read, and what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.errors import UserError
from pipeline.downstream import metrics
from pipeline.downstream.predictions_file import (
    SCHEMA,
    Part,
    PredictedTask,
    is_predictions,
    read,
    write,
)
from tests.pipeline import predicted

HEADS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "class": ("accuracy", ["good", "bad"], ["bad", None]),
    "choice": ("accuracy", ["0", "3"], ["0", "1"]),
    "score": ("spearman", [0.1 + 0.2, 5.0], [1 / 3, -1e-300]),
    "tags": ("entity-f1", [["B-A", "O"], []], [["O", "O"], []]),
    "answer": ("squad-v2", [["one", "a one"], []], ["", "two"]),
    "text": ("bleu", [["a b c d"], ["x", "y"]], ["a b", "z"]),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tasks = {head: PredictedTask(head, (metric,), ("bad", "good")) for head, (metric, *_) in HEADS.items()}
    parts = [
        Part(head, split, seed, ["1", "é-2"], truth, predicted, [0.25, None] if seed else None, language)
        for head, (_, truth, predicted) in HEADS.items()
        for split, seed, language in (("test", 0, "en"), ("test", 1, "en"), ("test", 0, "zh"), ("validation", 0, ""))
    ]
    write(tmp_path / "p.parquet", tasks, parts)
    made = read(tmp_path / "p.parquet")
    assert made.tasks == tasks and is_predictions(tmp_path / "p.parquet")
    assert [part.key for part in made.parts] == [part.key for part in parts]
    for part, wanted in zip(made.parts, parts, strict=True):
        assert (part.ids, part.truth, part.predicted, part.scores) == (
            list(wanted.ids), wanted.truth, wanted.predicted, wanted.scores
        )  # fmt: skip


def test_metrics_of_what_is_read_are_those_of_what_was_predicted(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth, guesses = random.normal(size=50), random.normal(size=50)
    part = Part("sts", "test", 0, list(map(str, range(50))), truth, guesses)
    write(tmp_path / "p.parquet", {"sts": PredictedTask("score", ("pearson",))}, [part])
    (again,) = read(tmp_path / "p.parquet").parts
    wanted = metrics.scores(["pearson"], "score", truth, guesses)
    assert metrics.scores(["pearson"], "score", again.truth, again.predicted) == wanted


def test_other_programs_read_it(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", {"reviews": predicted.TASK}, [predicted.part(0.9, rows=3)])
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert rows[1] == {
        "id": "r1", "truth": ["good"], "predicted": ["good"], "score": None, "split": "test", "seed": 0,
        "task": "reviews", "language": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"ids": ["r0", "r1", "r0"]}, "row 2 (reviews, r0) appears twice for seed 0"),
        ({"truth": ["good", None, "bad"]}, "row 1 (reviews, r1): 0 values are true; expected one"),
        ({"predicted": ["good", "bad"]}, "reviews: 3 ids, but 2 of predicted"),
        ({"scores": [0.1, float("nan"), 0.2]}, "the score of row 1 is nan"),
        ({"task": "films"}, "the task 'films' is not described; tasks are: reviews"),
    ],
)
def test_rows_that_cannot_be_are_not_written(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as refused:
        write(tmp_path / "p.parquet", {"reviews": predicted.TASK}, [predicted.part(0.9, rows=3, **changed)])
    assert problem in str(refused.value) and not (tmp_path / "p.parquet").exists()


@pytest.mark.parametrize(
    ("task", "truth", "guess", "problem"),
    [
        (PredictedTask("score", ("pearson",)), 1.0, float("inf"), "a value is not finite"),
        (PredictedTask("tags", ("accuracy",)), ["O", "O"], ["O"], "2 words have 1 predicted tags"),
        (PredictedTask("text", ("bleu",)), [], "a", "0 values are true; expected one at least"),
        (PredictedTask("class", ("pearson",)), "a", "a", "the metric 'pearson' is not for head class"),
        (PredictedTask("class", ()), "a", "a", "the task t has no metric"),
    ],
)
def test_rows_that_do_not_fit_their_head(
    tmp_path: Path, task: PredictedTask, truth: Any, guess: Any, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        write(tmp_path / "p.parquet", {"t": task}, [Part("t", "test", 0, ["1"], [truth], [guess])])


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(UserError, match="there is no such file of predictions"):
        read(path)
    path.write_text("id,truth\n")
    assert not is_predictions(path)
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read(path)
    pq.write_table(pa.table({"id": ["1"]}), path)
    assert not is_predictions(path)
    with pytest.raises(UserError, match="is not a file of predictions; a job's report names its file"):
        read(path)


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"version": 2, "tasks": {}}, "has version 2, but 1 is expected; run the job again"),
        ({"version": 1, "tasks": {"t": {"head": "class"}}}, "its description of tasks cannot be read"),
        (
            {"version": 1, "tasks": {"t": {"head": "cloze", "metrics": ["accuracy"]}}},
            "has the head 'cloze'; allowed: class",
        ),
        ({"version": 1, "tasks": {}}, "row 0 is of the task 'reviews', which is not described"),
        ([], "its description of tasks cannot be read"),
    ],
)
def test_descriptions_that_cannot_be_read_are_refused(tmp_path: Path, about: Any, problem: str) -> None:
    write(tmp_path / "p.parquet", {"reviews": predicted.TASK}, [predicted.part(0.9, rows=3)])
    table = pq.read_table(tmp_path / "p.parquet")
    pq.write_table(table.replace_schema_metadata({b"sesame.predictions": json.dumps(about)}), tmp_path / "p.parquet")
    with pytest.raises(UserError, match=problem):
        read(tmp_path / "p.parquet")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    about = {b"sesame.predictions": json.dumps({"version": 1, "tasks": {}}).encode()}
    table = SCHEMA.empty_table().drop_columns(["language"]).replace_schema_metadata(about)
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(UserError, match="the columns are not those of predictions: id, truth"):
        read(tmp_path / "p.parquet")


def test_a_byte_that_was_changed_is_found(tmp_path: Path) -> None:
    """In what pages hold; a header may have bytes that nobody reads."""
    path = tmp_path / "p.parquet"
    write(path, {"reviews": predicted.TASK}, [predicted.part(0.9)])
    content, whole = path.read_bytes(), pq.read_table(path)
    num_refused = 0
    for place in range(4, len(content) - pq.read_metadata(path).serialized_size - 8, 41):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            assert predictions_of(path) == whole.to_pylist(), place
        except UserError as error:
            assert "cannot be read as Parquet" in str(error)
            num_refused += 1
    assert num_refused > 15


def predictions_of(path: Path) -> list[dict[str, Any]]:
    """The rows, if they can be read."""
    read(path)
    return pq.read_table(path).to_pylist()
