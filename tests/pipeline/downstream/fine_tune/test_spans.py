"""Spans of recordings that answer recordings: rows are as of texts, and answers are in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_prep.labelled.examples import Answer, Example
from data_prep.labelled.segments import as_span, span_in
from data_prep.shards.rows import Ragged, ragged
from flows.inference import predict
from pipeline.downstream import predictions_file
from pipeline.downstream.fine_tune.heads import Layout, Shape, module_of, spans
from pipeline.downstream.fine_tune.job import FINE_TUNED
from tests.data_prep.sound.recordings import RATE, tone, wav
from tests.pipeline.downstream.fine_tune.test_recordings import carried_out, job, network, recipe
from tests.pipeline.downstream.fine_tune.test_segments import Frames

__all__ = ["network", "recipe"]  # fixtures

SHAPE = Shape("answer", unanswerable=True, kind="sound")


def example(*found: tuple[float, float], seconds: float = 0.5) -> Example:
    return Example(files=("0", "1"), seconds=seconds, answers=tuple(Answer(as_span(*each), 0) for each in found))


def encoded(*examples: Example, length: int = 16) -> Any:
    return spans.encode(SHAPE, examples, Frames(24, 3), Layout(length, 6, max_question=2, max_answer=8))


def test_windows_have_the_question_before_frames_and_answers_at_their_middles() -> None:
    assert module_of(SHAPE) is spans
    rows = encoded(example((0.2, 0.3)), example(), example((0.017, 0.03)))
    frames = ragged(rows.rows, "input")
    first = frames.row(0)
    assert first[[0, 3]].tolist() == [[0, 0], [0, 0]] and first[1:3].tolist() == [[0, 1], [1, 1]]
    assert first[4:, 0].tolist() == list(range(12)) and frames.row(1)[4:, 0].tolist() == list(range(6, 18))
    start, end = (np.asarray(rows.rows[name]) for name in ("start", "end"))
    whole = frames.row(1)[[start[1], end[1]], 0]
    assert whole.tolist() == [10, 14]  # of middles 0.216 … 0.296
    assert start[0] == end[0] == 0 and not start[3:].any()
    assert rows.teaches.tolist() == [True] * 6 + [False] * 3
    assert rows.remarks == [
        "3 of 3 questions are too long and cut", "1 of 3 questions have answers without a frame, not learned"
    ]  # fmt: skip
    whole_nowhere = encoded(example((0.0, 0.5)))
    assert whole_nowhere.remarks[1:] == [
        "1 of 1 questions have answers that no window has whole, learned as none",
        "1 of 1 questions have answers of over 8 positions (max_answer), which are not given whole",
    ]


def test_answers_are_spans_in_seconds_or_none_by_a_threshold() -> None:
    rows = encoded(example((0.2, 0.3)), example())
    frames = ragged(rows.rows, "input")
    scores = np.zeros((len(frames.values), 2))
    for row in range(3):  # of the first question: start at frame 10, end at 14
        at = frames.offsets[row] + 4 + np.flatnonzero(np.isin(frames.row(row)[4:, 0], [10, 14]))
        scores[at] = [[4, 0], [0, 4]][-len(at) :] if len(at) < 2 else [[4, 0], [0, 4]]
    made = spans.predicted(SHAPE, rows, Ragged(scores, frames.offsets))
    assert made.answers[0] == "0.206 0.306" and made.null_odds == [-8.0, 0.0]
    assert spans.told(SHAPE, rows.examples[0], made.answers[0]) == {
        "predicted": "0.206 0.306",
        "segments": [{"start": 0.206, "end": 0.306}],
    }
    shape = spans.fitted(SHAPE, rows, Ragged(scores, frames.offsets))
    assert shape.threshold == -8.0
    assert spans.predicted(shape, rows, Ragged(scores, frames.offsets)).answers == ["0.206 0.306", ""]
    assert spans.told(SHAPE, rows.examples[1], "") == {"predicted": "", "segments": []}


def task(folder: Path) -> Path:
    """Where in a recording of a low and a high tone, which end in noise, is a tone such as that of the question?"""
    random = np.random.default_rng(0)
    for split, count in (("train", 64), ("validation", 8), ("test", 16)):
        (folder / split).mkdir(parents=True)
        lines = []
        for number in range(count):
            pitches = [random.uniform(200, 400), random.uniform(900, 1500)]
            order = [0, 1] if number % 4 < 2 else [1, 0]
            lengths = random.uniform(0.06, 0.12, 2)
            parts = [tone(seconds, pitches[which]) for which, seconds in zip(order, lengths, strict=True)]
            waveform = np.concatenate([*parts, np.zeros(800)])
            asked, noise = number % 2, 0.02 * np.random.default_rng(number).normal(size=(2, len(waveform)))
            (folder / split / f"{number}.wav").write_bytes(wav(waveform + noise[0]))
            question = tone(0.06, pitches[asked]) + noise[1][: round(0.06 * RATE)]
            (folder / split / f"{number}q.wav").write_bytes(wav(question))
            place = order.index(asked)
            start = sum(lengths[:place])
            answer = [round(start, 3), round(start + lengths[place], 3)]
            lines.append({"in": f"{split}/{number}.wav", "asked": f"{split}/{number}q.wav", "answer": answer})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    named = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    settings = {"kind": "sound", "head": "answer", "inputs": ["in", "asked"], "label": "answer", **named}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return folder / "task.yaml"


def test_a_job_finds_what_is_asked_for(network: Path, recipe: Any, tmp_path: Path) -> None:
    file = task(tmp_path / "tones")
    config = job(
        file, task="question-answering", models=["pretrained"], baselines=["no-answer", "nearest-statistics"],
        steps=600, lrs=[5e-3], length=32, window_overlap=8, max_question=6, max_answer=16, batch=16,
    )  # fmt: skip
    made = carried_out(config, recipe, network, tmp_path / "out")
    scores = {cell["model"]: cell["all"][0] for cell in made.notes["cells"]}
    assert scores["no-answer"]["span-f1"] == 0 and scores["nearest-statistics"]["span-f1"] > 0.6
    assert scores["pretrained"]["span-f1"] > 0.8 and scores["pretrained"]["span-accuracy"] > 0.8
    (part,) = predictions_file.read(tmp_path / "out" / made.predictions).parts
    options: Any = {"inputs": [], "layout": None, "columns": None, "device": "cpu", "as_json": True}
    rows = [str(file.with_name("test.jsonl"))]
    predict.predict(str(tmp_path / "out" / FINE_TUNED), rows, str(tmp_path / "a.arrow"), **options)
    with pa.OSFile(str(tmp_path / "a.arrow")) as opened:
        table = pa.ipc.open_file(opened).read_all()
    assert table["predicted"].to_pylist() == [[answer] for answer in part.predicted]
    found = [(each["start"], each["end"]) for (each,) in table["segments"].to_pylist()]
    assert found == [span_in(answer) for answer in part.predicted if answer]
    assert table["score"].to_pylist() == pytest.approx(list(part.scores or ()), abs=1e-4)
