"""Labels of stretches of recordings: each frame is asked once, at its time, and answers are segments in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_prep.labelled.examples import Example
from data_prep.labelled.segments import Segment, stretches, tags_of
from data_prep.shards.rows import Ragged, ragged
from flows.inference import predict
from pipeline.downstream import predictions_file
from pipeline.downstream.fine_tune import baselines
from pipeline.downstream.fine_tune.answered import surest
from pipeline.downstream.fine_tune.heads import Layout, Predicted, Shape, module_of, segments
from pipeline.downstream.fine_tune.job import FINE_TUNED
from tests.data_prep.sound.recordings import RATE, tone, wav
from tests.pipeline.downstream.fine_tune.few_labels import NAMED
from tests.pipeline.downstream.fine_tune.test_recordings import carried_out, job, network, recipe

__all__ = ["network", "recipe"]  # fixtures

SHAPE = Shape("tags", ("high", "low", "pause"), kind="sound", outside="pause")


class Frames:
    """Frames of two values: the number of each, and of its file. 0.02 s apart, the first around 0.016 s."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def __call__(self, path: Path) -> np.ndarray:
        number = int(path.name)
        return np.stack([np.arange(self.lengths[number]), np.full(self.lengths[number], number)], 1)

    def times(self, length: int) -> np.ndarray:
        return 0.016 + 0.02 * np.arange(length)


def example(number: int, seconds: float, *found: Segment, outside: int = -1) -> Example:
    tags = tags_of(found, seconds, outside) if found else ()
    return Example(text=str(number), files=(str(number),), seconds=seconds, tags=tags)


def test_every_frame_is_asked_once_at_its_time_and_unknown_ones_teach_nothing() -> None:
    assert module_of(SHAPE) is segments
    known = example(0, 0.5, Segment(0.1, 0.2, 0), Segment(0.2, 0.3, 1))
    rows = segments.encode(SHAPE, [known, example(1, 0.1)], Frames(24, 4), Layout(10, 4))
    asked, frames = ragged(rows.rows, "target_positions"), ragged(rows.rows, "input")
    assert frames.lengths.max() == 10 and len(frames) > 4
    at = np.repeat(frames.offsets[:-1], asked.lengths) + asked.values
    places = frames.values[at].astype(int)
    assert sorted(map(tuple, places[:, ::-1].tolist())) == [*((0, n) for n in range(24)), *((1, n) for n in range(4))]
    alone = np.minimum(asked.values, np.repeat(frames.lengths, asked.lengths) - 1 - asked.values)
    inside = (places[:, 1] == 0) & (places[:, 0] > 2) & (places[:, 0] < 21)
    assert alone[inside].min() >= 2  # of 4 in common, half on either side
    asked_tags = ragged(rows.rows, "target_ids").values
    truth = {0.02 * n + 0.016: tag for (n, file), tag in zip(places, asked_tags, strict=True) if not file}
    assert all(tag == (0 if 0.1 <= time < 0.2 else 1 if 0.2 <= time < 0.3 else -1) for time, tag in truth.items())
    learned = rows.learnable()
    assert sorted(ragged(learned, "target_ids").values.tolist()) == [0] * 5 + [1] * 5
    assert ragged(learned, "target_ids").lengths.min() > 0 and set(ragged(learned, "input").values[:, 1]) == {0}
    (said,) = rows.remarks
    assert said == "1 of 2 rows have over 10 positions and are read in windows that overlap"


def test_answers_are_those_of_the_nearest_frames_as_segments_in_seconds() -> None:
    examples = [example(0, 0.5), example(1, 0.0823)]
    rows = segments.encode(SHAPE, examples, Frames(24, 4), Layout(10, 4))
    asked, frames = ragged(rows.rows, "target_positions"), ragged(rows.rows, "input")
    places = frames.values[np.repeat(frames.offsets[:-1], asked.lengths) + asked.values].astype(int)
    labels = np.where(places[:, 1] == 1, 0, np.where(places[:, 0] < 10, 2, 1))  # low from frame 10 on, after a pause
    scores = Ragged(3.0 * np.eye(3)[labels], asked.offsets)
    made = segments.predicted(SHAPE, rows, scores)
    assert stretches(made.answers[0], 0.5) == [Segment(0.0, 0.21, 2), Segment(0.21, 0.5, 1)]
    assert made.scores == pytest.approx([np.exp(3) / (np.exp(3) + 2)] * 2)
    assert segments.told(SHAPE, examples[0], made.answers[0]) == {
        "predicted": ["low"],
        "segments": [{"start": 0.21, "end": 0.5, "label": "low"}],
    }
    assert segments.told(SHAPE, examples[1], made.answers[1])["segments"] == [
        {"start": 0.0, "end": 0.0823, "label": "high"}
    ]


def test_validation_rows_choose_the_time_over_which_labels_are_smoothed() -> None:
    """Two tones of half a second, in which every tenth frame is taken for the other."""
    known = example(0, 1.0, Segment(0.0, 0.5, 0), Segment(0.5, 1.0, 1))
    rows = segments.encode(SHAPE, [known], Frames(50), Layout(64, 4))
    frame = ragged(rows.rows, "target_positions").values
    said = np.where(frame % 10 == 5, 1, 0) ^ (frame >= 25)
    scores = Ragged.from_lengths(np.eye(3)[said], [50])
    shape = segments.fitted(SHAPE, rows, scores)
    assert shape.smoothing == 5 and len(stretches(segments.predicted(SHAPE, rows, scores).answers[0], 1.0)) == 10
    assert [tag for *_, tag in stretches(segments.predicted(shape, rows, scores).answers[0], 1.0)] == [0, 1]
    clean = Ragged.from_lengths(np.eye(3)[(frame >= 25).astype(int)], [50])
    assert segments.fitted(SHAPE, rows, clean).smoothing == 1
    shares = np.random.default_rng(0).random((9, 3))
    around = [shares[max(0, place - 2) : place + 3].mean(0) for place in range(9)]
    np.testing.assert_allclose(segments.smoothed(shares, 5), around)


def written(path: Path, *parts: tuple[float, float], seed: int) -> list[list[Any]]:
    """A recording of tones (pitch in Hz, seconds; 0: a pause) under noise, and its segments."""
    values, found, at = [], [], 0.0
    for pitch, seconds in parts:
        values.append(tone(seconds, pitch) if pitch else np.zeros(round(seconds * RATE)))
        if pitch:
            found.append([round(at, 3), round(at + seconds, 3), "low" if pitch < 600 else "high"])
        at += seconds
    waveform = np.concatenate(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(waveform + 0.02 * np.random.default_rng(seed).normal(size=len(waveform))))
    return found


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of low and high tones with pauses, most of them longer than a row of 24 frames."""
    folder, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 4), ("test", 8)):
        lines = []
        for number in range(count):
            pitches = [random.uniform(*((200, 400), (900, 1500))[int(random.integers(2))]) for _ in range(4)]
            parts = [(pitch * (place != 2), random.uniform(0.08, 0.3)) for place, pitch in enumerate(pitches)]
            found = written(folder / split / f"{number}.wav", *parts, seed=number + 100 * len(split))
            lines.append(json.dumps({"file": f"{split}/{number}.wav", "segments": found}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    named = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    settings = {"kind": "sound", "head": "tags", "inputs": "file", "label": "segments", "outside": "pause", **named}
    (folder / "tones.yaml").write_text(yaml.safe_dump(settings))
    return folder / "tones.yaml"


def test_a_job_learns_segments_and_answers_alike_wherever_it_is_asked(
    network: Path, task: Path, recipe: Any, tmp_path: Path
) -> None:
    config = job(task, task="tagging", pooling="cls", models=["pretrained", "scratch"], steps=60)
    made = carried_out(config, recipe, network, tmp_path / "out")
    scores = {cell["model"]: cell["all"][0] for cell in made.notes["cells"]}
    assert made.notes["metric"] == "accuracy"
    assert all(scores["pretrained"][name] > 0.9 for name in ("accuracy", "macro-f1", "segment-f1"))
    assert scores["majority"]["accuracy"] < 0.6 < 0.8 < scores["statistics"]["accuracy"]
    assert "read in windows that overlap" in " ".join(made.notes["remarks"])
    (part,) = predictions_file.read(tmp_path / "out" / made.predictions).parts
    options: Any = {"inputs": [], "layout": None, "columns": None, "device": "cpu", "as_json": True}
    model, rows = str(tmp_path / "out" / FINE_TUNED), str(task.with_name("test.jsonl"))
    wavs = [str(task.parent / "test" / f"{number}.wav") for number in range(8)]
    predict.predict(model, [rows], str(tmp_path / "a.jsonl"), **options)
    predict.predict(model, wavs, str(tmp_path / "b.arrow"), **options)
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with pa.OSFile(str(tmp_path / "b.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table["segments"].to_pylist() == [answer["segments"] for answer in answers]
    assert table["predicted"].to_pylist() == [answer["predicted"] for answer in answers]
    for answer, tags in zip(answers, part.predicted, strict=True):
        found = [Segment(**segment) for segment in answer["segments"]]
        assert ["pause" if tag == -1 else tag for tag in _named(found, len(tags) / 100)] == list(tags)
    truth = json.loads(task.with_name("test.jsonl").read_text().splitlines()[0])["segments"]
    assert answers[0]["predicted"] == [label for _, _, label in truth]
    for found, (start, end, _) in zip(answers[0]["segments"], truth, strict=True):
        assert abs(found["start"] - start) < 0.03 and abs(found["end"] - end) < 0.03


def _named(found: list[Segment], seconds: float) -> list[Any]:
    names = ["low", "high"]
    numbered = [segment._replace(label=names.index(segment.label)) for segment in found]
    return [-1 if tag == -1 else names[tag] for tag in tags_of(numbered, seconds)]


def test_the_longest_wrong_stretch_is_shown() -> None:
    data = NAMED.__class__("tagging", ["a", "b"], NAMED.splits, "made up", "CC0-1.0", "none", kind="sound")
    asked = Example(text="x.wav", files=("x.wav",), seconds=0.1, tags=(0, 0, 0, 0, -1, 1, 1, 1, 0, 0))
    (wrong,) = surest(data, [asked], Predicted([[1, 0, 1, 1, 1, 0, 0, 0, 0, 0]], [0.8]), 5)
    assert wrong.cells == ["x.wav 0.05–0.08 s", "b", "a", "80%"]


def test_baselines_of_positions_leave_out_what_is_not_known() -> None:
    data = NAMED.__class__("tagging", ["a", "b"], NAMED.splits, "made up", "CC0-1.0", "none", kind="sound")
    read = Frames(24, 24)
    train = [example(0, 0.5, Segment(0.0, 0.1, 0), Segment(0.2, 0.5, 1))]
    methods = baselines.methods_of(data, read)
    assert methods["majority"](data, train, train) == [[1] * 50]
    (answer,) = methods["statistics"](data, train, train)
    assert len(answer) == 50 and answer[:8] == [0] * 8 and answer[22:] == [1] * 28  # by the number of the frame


def test_features_of_the_baseline_are_statistics_of_the_frames_around() -> None:
    array = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    made = baselines._around(array)
    for place in (0, 15, 39):
        around = array[max(0, place - 10) : place + 11]
        np.testing.assert_allclose(made[place], [*array[place], *around.mean(0), *around.std(0)], atol=1e-5)
