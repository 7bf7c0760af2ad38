"""Rows of several recordings: each is read by itself, in pieces where it is long, and compared with the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.labelled.examples import Example
from data_prep.shards.rows import Ragged, ragged
from flows.inference import predict
from pipeline.downstream import predictions_file
from pipeline.downstream.fine_tune.heads import Layout, Shape, array_choices, arrays, module_of
from pipeline.downstream.fine_tune.job import FINE_TUNED
from tests.data_prep.sound.recordings import written
from tests.pipeline.downstream.fine_tune.test_recordings import carried_out, job, network, recipe

__all__ = ["network", "recipe"]  # fixtures


class Read:
    """Files are named by their numbers of frames, which hold it."""

    def __call__(self, path: Path) -> np.ndarray:
        return np.full((int(path.name), 2), int(path.name))

    def times(self, length: int) -> np.ndarray:
        raise AssertionError("nothing here is of time")


def test_a_piece_of_each_recording_is_compared_with_one_of_the_other() -> None:
    shape = Shape("class", ("no", "yes"), kind="sound", paired=True)
    examples = [Example(files=("25", "12"), label=1), Example(files=("4", "7"), label=0)]
    rows = arrays.encode(shape, examples, Read(), Layout(10, 3))
    assert ragged(rows.rows, "part").values.reshape(-1, 2).tolist() == [[9, 6], [8, 6], [8, 6], [4, 7]]
    column = ragged(rows.rows, "input")
    assert column.lengths.tolist() == [15, 14, 14, 11] and set(column.row(0)[:9].flat) == {25}
    assert np.asarray(rows.rows["label"]).tolist() == [1, 1, 1, 0]
    assert rows.remarks == ["1 of 2 rows have over 10 positions and are read in pieces, whose scores are averaged"]
    scores = Ragged.from_lengths(np.array([[0.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.ones(4, int))
    assert arrays.predicted(shape, rows, scores).answers == [1, 1]


def test_scores_of_pieces_are_averaged_before_choices_are_compared() -> None:
    shape = Shape("choice", kind="sound", paired=True)
    assert module_of(shape) is array_choices
    examples = [Example(files=("4", "15", "6"), label=1), Example(files=("4", "5", "6", "7"), label=-1)]
    rows = array_choices.encode(shape, examples, Read(), Layout(10, 3))
    assert [ragged(rows.rows, "part").row(row).tolist() for row in range(3)] == [[4, 8, 6], [4, 7, 6], [4, 5, 6, 7]]
    assert np.asarray(rows.rows["label"]).tolist() == [1, 1, 0]
    scores = Ragged.from_rows([[[2.0], [0.0]], [[0.0], [3.0]], [[0.0], [0.0], [1.0]]])
    made = array_choices.predicted(shape, rows, scores)
    assert made.answers == [1, 2] and made.scores[0] == pytest.approx(1 / (1 + np.exp(-0.5)))


def task(folder: Path, **settings: Any) -> Path:
    """Low and high tones, a part of them longer than a row of 24 frames, in pairs, and as choices to one of them."""
    random, number = np.random.default_rng(0), 0

    def tone(split: str, is_high: bool) -> str:
        nonlocal number
        number += 1
        pitch = random.uniform(*((900, 1500) if is_high else (200, 400)))
        written(folder / split / f"{number}.wav", pitch, random.choice([0.15, 0.4]), seed=number)
        return f"{split}/{number}.wav"

    for split, count in (("train", 32), ("validation", 8), ("test", 12)):
        lines = []
        for row in range(count):
            first, others = row % 2 == 0, [row % 4 < 2, row % 4 >= 2]
            names = [tone(split, is_high) for is_high in (first, *others)]
            same = "yes" if first == others[0] else "no"
            lines.append({"a": names[0], "b": names[1], "of": names[1:], "same": same, "right": others.index(first)})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    named = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    (folder / "task.yaml").write_text(yaml.safe_dump({"kind": "sound", **named, **settings}))
    return folder / "task.yaml"


@pytest.mark.parametrize(
    ("name", "settings", "baseline"),
    [
        ("classification", {"inputs": ["a", "b"], "label": "same"}, "statistics"),
        ("choice", {"inputs": "a", "choices": "of", "label": "right"}, "nearest-statistics"),
    ],
)
def test_a_job_learns_to_compare_recordings(
    network: Path, recipe: Any, tmp_path: Path, name: str, settings: dict[str, Any], baseline: str
) -> None:
    file = task(tmp_path / "tones", **settings)
    config = job(file, task=name, models=["pretrained"], baselines=["majority", baseline], steps=150)
    made = carried_out(config, recipe, network, tmp_path / "out")
    scores = {cell["model"]: cell["mean"] for cell in made.notes["cells"]}
    assert scores["pretrained"] > 0.9 and scores[baseline] > 0.9 and scores["majority"] <= 0.5
    (part,) = predictions_file.read(tmp_path / "out" / made.predictions).parts
    options: Any = {"inputs": [], "layout": None, "columns": None, "device": "cpu", "as_json": True}
    rows = [str(file.with_name("test.jsonl"))]
    predict.predict(str(tmp_path / "out" / FINE_TUNED), rows, str(tmp_path / "a.jsonl"), **options)
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [answer["score"] for answer in answers] == pytest.approx(list(part.scores or ()), abs=1e-5)
    if name == "choice":
        options_of = [json.loads(line)["of"] for line in Path(rows[0]).read_text().splitlines()]
        assert [answer["predicted"] for answer in answers] == [
            of[int(number)] for of, number in zip(options_of, part.predicted, strict=True)
        ]
    else:
        assert [answer["predicted"] for answer in answers] == list(part.predicted)
