"""Fine-tuning on recordings: frames are those of pretraining, long ones are read in pieces, and answers are the same
wherever they are asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.files import LabelledConfig, load
from data_prep.labelled.loading import examples_of
from data_prep.shards.rows import Ragged, ragged
from data_prep.sound.frames import FramesConfig, Scale, frames
from data_prep.tokens.cleaning import Cleaning
from flows.inference import predict
from pipeline import gate
from pipeline.downstream import predictions_file
from pipeline.downstream.fine_tune import baselines, checks
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.heads import Layout, Shape, arrays, module_of, shape_of, tokenizer_of
from pipeline.downstream.fine_tune.job import FINE_TUNED, needs, settings
from pipeline.downstream.fine_tune.serving import answers, example_of, task_of_rows
from pipeline.recipe.load import load as load_recipe
from pipeline.reports.report import read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.data_prep.sound.recordings import RATE, written
from tests.pipeline import tiny
from tests.pipeline.downstream.fine_tune import answering
from tests.pipeline.downstream.fine_tune.few_labels import job_of
from tests.pipeline.downstream.fine_tune.listening import FRAMES, network_of


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of frames with random weights, as its pretraining exports it: the folder of an artifact."""
    folder = tmp_path_factory.mktemp("artifact")
    network_of(folder / "model")
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low and high tones of 0.2 s (18 frames) to learn, some of them longer than a row of 24."""
    folder = tmp_path_factory.mktemp("tones")
    lines: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 8), ("test", 12)):
        for number in range(count):
            label = ("low", "high")[number % 2]
            pitch = random.uniform(*((200, 400) if label == "low" else (900, 1500)))
            seconds = 0.6 if number >= count - 2 else 0.2
            written(folder / split / f"{number}.wav", pitch, seconds, seed=len(lines[split]) + 100 * len(split))
            lines[split].append(f"{split}/{number}.wav\t{label}\t{pitch:.1f}\n")
    for split, of_split in lines.items():
        (folder / f"{split}.tsv").write_text("path\tlabel\tpitch\n" + "".join(of_split))
    named = {"kind": "sound", "inputs": "path", **{split: f"{split}.tsv" for split in lines}}
    (folder / "tones.yaml").write_text(yaml.safe_dump(named))
    (folder / "pitch.yaml").write_text(yaml.safe_dump({**named, "head": "score", "label": "pitch"}))
    return folder / "tones.yaml"


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load_recipe("masked-frames")


def job(file: Path, **changes: Any) -> Any:
    values = {
        "name": "tones", "task": "classification", "data": {"task": str(file)}, "labels": [None], "seeds": 1,
        "steps": 40, "lrs": [1e-2], "length": FRAMES.length, "pooling": "mean", "validation_rows": 8, "test_rows": None,
        "models": ["pretrained", "frozen", "scratch"], "baselines": ["majority", "statistics"], **changes,
    }  # fmt: skip
    return job_of(file, **values)


def carried_out(config: Any, recipe: Any, network: Path, out: Path) -> Any:
    out.mkdir()
    known = settings(recipe, config, out)
    inputs: Any = {"pretrained": SimpleNamespace(path=network)}
    given = {"version": 1, "job": config.model_dump(mode="json"), **known, "precision": "fp32"}
    job_stage.run(given, inputs, out, Context(downloads=out, progress=lambda *_, **__: None))
    return read(out)


def test_frames_are_those_of_pretraining_and_what_is_long_is_read_in_pieces(network: Path, task: Path) -> None:
    data = load(LabelledConfig(task=str(task)), task.parent, kind="sound")
    shape, examples = shape_of(data), [*data.splits["test"][:1], *data.splits["test"][-1:]]
    assert shape.kind == "sound" and module_of(shape) is arrays
    reader = tokenizer_of(shape, network / "model", framed=False)
    rows = arrays.encode(shape, examples, reader, Layout(24, 8))
    scale = Scale.load(network / "model")
    by_hand = np.concatenate([scale.apply(frames(_samples(example), RATE, FRAMES)) for example in examples])
    column = ragged(rows.rows, "input")
    assert column.lengths.tolist() == [18, 20, 19, 19] and np.array_equal(column.values, by_hand)
    assert np.asarray(rows.rows["label"]).tolist() == [examples[0].label] + 3 * [examples[1].label]
    assert rows.remarks == ["1 of 2 rows have over 24 positions and are read in pieces, whose scores are averaged"]
    scores = Ragged.from_lengths(np.array([[0.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.ones(4, int))
    made = arrays.predicted(shape, rows, scores)
    assert made.answers == [1, 0] and made.scores == pytest.approx(
        [np.exp(2) / (1 + np.exp(2)), 1 / (1 + np.exp(-1 / 3))]
    )
    of_numbers = arrays.predicted(
        Shape("score", scale=(10, 2), kind="sound"), rows, Ragged(scores.values[:, :1], scores.offsets)
    )
    assert of_numbers.answers == [10, 12]


def _samples(example: Example) -> np.ndarray:
    import wave

    with wave.open(example.files[0]) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)


def test_a_job_learns_from_recordings_and_answers_alike_wherever_it_is_asked(
    network: Path, task: Path, recipe: Any, tmp_path: Path
) -> None:
    made = carried_out(job(task), recipe, network, tmp_path / "out")
    cells = {cell["model"]: cell["mean"] for cell in made.notes["cells"]}
    assert cells["majority"] == 0.5 and cells["statistics"] == cells["pretrained"] == 1.0
    assert set(cells) == {"pretrained", "frozen", "scratch", "majority", "statistics"}
    (candidate,) = made.candidates
    assert (candidate.kind, candidate.path, candidate.score) == (gate.FINE_TUNED, FINE_TUNED, 1.0)
    assert candidate.evaluation["examples"] == settings(recipe, job(task), tmp_path)["examples"]
    assert "test by" in " ".join(made.notes["remarks"]) and "read in pieces" in " ".join(made.notes["remarks"])
    (part,) = predictions_file.read(tmp_path / "out" / made.predictions).parts
    rows = task.parent / "unlabelled.jsonl"
    rows.write_text("".join(json.dumps({"path": f"test/{number}.wav"}) + "\n" for number in range(12)))
    options: Any = {"inputs": [], "layout": None, "columns": None, "device": "cpu", "as_json": True}
    predict.predict(str(tmp_path / "out" / FINE_TUNED), [str(rows)], str(tmp_path / "a.jsonl"), **options)
    wavs = [str(task.parent / "test" / f"{number}.wav") for number in range(12)]
    predict.predict(str(tmp_path / "out" / FINE_TUNED), wavs, str(tmp_path / "b.jsonl"), **options)
    for name in ("a.jsonl", "b.jsonl"):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [line["predicted"] for line in lines] == list(part.predicted)
        assert [line["score"] for line in lines] == pytest.approx(list(part.scores or ()), abs=1e-5)
    table = served(tmp_path / "out" / FINE_TUNED, tmp_path / "saved", [Path(wav).read_bytes() for wav in wavs])
    assert list(table["predicted"]) == list(part.predicted)
    assert list(table["score"]) == pytest.approx(list(part.scores or ()), abs=1e-5)


def served(network: Path, folder: Path, contents: list[bytes]) -> Any:
    """What MLflow's server answers to recordings, which JSON has as base64."""
    import base64

    from mlflow.models import Model
    from mlflow.pyfunc import load_model
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

    from pipeline.tracking import registry

    registry.save(network, folder, kind=gate.FINE_TUNED)
    signature: Any = Model.load(str(folder)).signature
    assert [(each["name"], each["type"]) for each in signature.inputs.to_dict()] == [("path", "binary")]
    sent = [{"path": base64.b64encode(raw).decode()} for raw in contents]
    return load_model(str(folder)).predict(dataframe_from_parsed_json(sent, "records", signature.inputs))


@pytest.mark.parametrize(
    ("reads", "column"),
    [
        ({"inputs": ["path"]}, "path"),
        ({"layout": "files"}, "file"),
        ({"inputs": ["{folder}/{name}.wav"]}, "recording"),
        ({"inputs": ["path"], "id": "n", "language": "l", "columns": ["n", "l", "path"]}, "path"),
    ],
)
def test_a_server_is_sent_recordings_and_opens_no_file(
    network: Path, task: Path, reads: dict[str, Any], column: str
) -> None:
    file = task.parent / "test" / "0.wav"
    shape, reads = Shape("class", ("low", "high"), kind="sound"), {"kind": "sound", **reads}
    model = answering.made(network / "model", shape, FRAMES.length, "mean", **reads)
    (answer,) = answers(model, [{column: file.read_bytes()}])
    wanted = model.predict([Example(files=(str(file),))])
    assert answer == {"predicted": ("low", "high")[wanted.answers[0]], "score": wanted.scores[0]}
    assert list(example_of(model)[0]) == [column] and len(answers(model, example_of(model))) == 2
    for value, problem in (
        (str(file), f"row 2: '{column}' is .*0.wav.*; expected the bytes of a recording, in JSON as base64"),
        (b"", f"row 2: '{column}' is .*; expected the bytes of a recording, in JSON as base64"),
        (None, f"row 2: '{column}', which the task names, has no value"),
        (str(file).encode(), r"row 2: what was sent is no recording .*\(not a WAV, FLAC or OGG file\); send one as"),
        (file.read_bytes()[:-9], r"row 2: what was sent is no recording that can be used \(truncated\); send one as"),
    ):
        with pytest.raises(UserError, match=problem):
            answers(model, [{column: file.read_bytes()}, {column: value}])


@pytest.mark.parametrize(
    ("shape", "reads"),
    [
        (Shape("tags", ("low", "high"), kind="sound"), {"inputs": ["a"]}),
        (Shape("class", ("low", "high"), kind="sound", paired=True), {"inputs": ["a", "b"]}),
        (Shape("choice", kind="sound", paired=True), {"inputs": ["a"], "choices": ["b", "c"]}),
        (Shape("choice", kind="sound", paired=True), {"inputs": ["a"], "choices": "options"}),
        (Shape("answer", kind="sound"), {"inputs": ["a", "b"]}),
    ],
)
def test_a_server_is_sent_as_many_recordings_as_a_row_has(
    network: Path, task: Path, shape: Shape, reads: dict[str, Any]
) -> None:
    """Answers are those to the same files, and to what shows how to ask."""
    model = answering.made(network / "model", shape, FRAMES.length, "mean", kind="sound", **reads)
    files = {name: task.parent / "test" / f"{number}.wav" for number, name in enumerate(("a", "b", "c"))}
    sent: dict[str, Any] = {name: file.read_bytes() for name, file in files.items()}
    sent["options"] = [sent["b"], sent["c"]]
    num_files = len(reads["inputs"]) + 2 * (shape.head == "choice")
    paths = tuple(map(str, files.values()))[:num_files]
    (example,) = examples_of(task_of_rows(model), [sent])
    alike = replace(example, files=paths)
    wanted = model.predict([alike])
    assert answers(model, [sent]) == model.lines([alike], wanted)
    assert len(answers(model, example_of(model))) == 2
    with pytest.raises(UserError, match=r"row 1: '(a|b|choices)' is .*; expected the bytes of a recording"):
        answers(model, [dict.fromkeys(sent, paths[0]) | {"options": [paths[0], sent["c"]]}])


def test_numbers_are_learned_from_recordings_by_networks_with_frames_of_their_own(
    network: Path, task: Path, recipe: Any, tmp_path: Path
) -> None:
    other = network_of(tmp_path / "other", FramesConfig(bands=6, hop_ms=12, length=24))
    config = job(
        task.with_name("pitch.yaml"),
        task="regression",
        baselines=["mean", "statistics"],
        models=["pretrained", str(other)],
        steps=150,
    )
    made = carried_out(config, recipe, network, tmp_path / "out")
    cells = {cell["model"]: cell["all"][0] for cell in made.notes["cells"]}
    assert min(cells[name]["pearson"] for name in ("pretrained", str(other), "statistics")) > 0.9
    model = open_fine_tuned(tmp_path / "out" / FINE_TUNED)
    assert (model.folder / Scale.FILE).read_bytes() == (network / "model" / Scale.FILE).read_bytes()


def test_other_recordings_under_the_same_names_are_other_data(task: Path, recipe: Any, tmp_path: Path) -> None:
    copy = tmp_path / "tones.yaml"
    copy.write_text(yaml.safe_dump({"kind": "sound", "layout": "files", "train": "*/*.wav"}))
    for number in range(30):
        written(tmp_path / ("a", "b")[number % 2] / f"{number}.wav", 300 + 10 * number, seed=number)
    first = settings(recipe, job(copy), tmp_path)
    assert first["contents"].keys() == {str(copy)} and first == settings(recipe, job(copy), tmp_path)
    written(tmp_path / "a" / "0.wav", 700)
    given = {"version": 1, "job": job(copy).model_dump(mode="json"), **first}
    with pytest.raises(UserError, match=r"tones.yaml: its recordings have changed since this run began; run it again"):
        job_stage.run(given, {}, tmp_path, Context(downloads=tmp_path, progress=lambda *_, **__: None))
    assert settings(recipe, job(copy), tmp_path)["examples"] != first["examples"]
    (tmp_path / "a" / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"a/0.wav: 0.wav is no recording that can be used"):
        settings(recipe, job(copy), tmp_path)


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        (
            {"task": "text-to-text"},
            ".task",
            "text-to-text is of text, and the network reads sound; it has classification, regression, tagging, choice",
        ),
        ({"pooling": "cls"}, ".pooling", "cls is of tokens, and the network reads sound; set it to mean"),
        ({"data": {"name": "brown-pos"}}, ".data", "of kind sound rows are told by a task file; set it to {task: …}"),
        (
            {"baselines": ["tfidf"]},
            ".baselines.0",
            "'tfidf' is no baseline for classification; allowed: majority, statist",
        ),
        ({"length": 300}, ".length", "300 exceeds network.config.max_position_embeddings 256"),
    ],
)
def test_settings_of_texts_are_refused_for_recordings(
    recipe: Any, task: Path, changes: dict[str, Any], path: str, problem: str
) -> None:
    assert not list(needs(recipe, job(task)))
    found = dict(reversed([*needs(recipe, job(task, **changes))]))
    assert found[path].startswith(problem)


def test_other_networks_that_cannot_be_compared_are_refused(recipe: Any, task: Path, tmp_path: Path) -> None:
    of_text, of_frames = answering.network_of(tmp_path / "text"), network_of(tmp_path / "frames")
    for folder, length, problem in (
        (of_text, 24, "text: its network does not read sound; name one that does"),
        (of_frames, 33, "frames: length 33 exceeds its 32 positions"),
    ):
        with pytest.raises(UserError, match=problem):
            settings(recipe, job(task, models=["pretrained", str(folder)], length=length), tmp_path)
    texts: Any = load_recipe(str(tiny.recipe(tmp_path / "recipe")))
    with pytest.raises(UserError, match="frames: its network does not read text; name one that does"):
        settings(texts, job(task, models=[str(of_frames)]), tmp_path)


def test_kinds_of_data_and_network_that_differ_are_told_before_training(
    recipe: Any, task: Path, tmp_path: Path
) -> None:
    of_text: Any = load_recipe(str(tiny.recipe(tmp_path / "recipe")))
    with pytest.raises(UserError, match=r"tones.yaml: its rows are of kind sound, and the network reads text; give"):
        settings(of_text, job(task, models=["scratch"], baselines=["majority"]), tmp_path)
    (tmp_path / "a.tsv").write_text("path\tlabel\nx\ta\ny\tb\n")
    texts = tmp_path / "texts.yaml"
    texts.write_text(yaml.safe_dump({"train": "a.tsv", "validation": "a.tsv", "inputs": "path"}))
    with pytest.raises(UserError, match=r"texts.yaml: its rows are of kind text, and the network reads sound"):
        settings(recipe, job(texts), tmp_path)
    assert checks.read(job(texts), Cleaning()).rows["train"] == 2


def test_statistics_of_bands_learn_with_weights_of_labels(task: Path) -> None:
    """Of labels that nothing tells apart, the heavier is said more often."""
    data, random = load(LabelledConfig(task=str(task)), task.parent, kind="sound"), np.random.default_rng(0)
    arrays_of: Any = {Path(example.files[0]): random.normal(size=(5, 2)) for example in data.splits["train"]}
    method = baselines.methods_of(data, arrays_of.__getitem__)["statistics"]
    train = data.splits["train"]
    low = data.labels.index("low")
    asked = (None, np.array([9.0 if label == low else 1.0 for label in range(2)]))
    lows = [method(data, train, train, weights=weights).count(low) for weights in asked]
    assert 0 < lows[0] < lows[1] > 20
