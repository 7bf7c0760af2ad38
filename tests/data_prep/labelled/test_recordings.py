"""Task files whose rows are recordings: how files are named, what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.examples import Example
from data_prep.labelled.files import LabelledConfig
from data_prep.labelled.files import load as load_data
from data_prep.labelled.loading import unlabelled
from data_prep.labelled.rows import Reading
from data_prep.labelled.task import files_of, read_task, task_of
from data_prep.labelled.unlabelled import laid_out
from tests.data_prep.labelled.conftest import Load
from tests.data_prep.sound.recordings import tone, wav, written

NAMED = {"kind": "sound", "inputs": "path", "validation": "dev.tsv"}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four recordings in two folders; the last is a copy of the first."""
    for number, (folder, frequency) in enumerate([("low", 300), ("low", 320), ("high", 900)]):
        written(tmp_path / folder / f"{number}.wav", frequency, seed=number)
    (tmp_path / "high" / "3.wav").write_bytes((tmp_path / "low" / "0.wav").read_bytes())
    return tmp_path


def files(examples: list[Example], folder: Path) -> list[str]:
    return [str(Path(example.files[0]).relative_to(folder)) for example in examples]


def test_a_column_has_paths_that_begin_at_its_file(clips: Path, load: Load) -> None:
    tables = {
        "train.tsv": "path\tlabel\nlow/0.wav\tl\nhigh/2.wav\th\n",
        "dev.tsv": "path\tlabel\nhigh/2.wav\th\n",
        "low/test.tsv": f"path\tlabel\n1.wav\tl\n{clips}/high/3.wav\th\n",
    }
    data = load(tables, train="train.tsv", test="low/test.tsv", **NAMED)
    train, test = data.splits["train"], data.splits["test"]
    assert (data.kind, data.noun, data.task, data.labels) == ("sound", "recording", "classification", ["h", "l"])
    assert files(train, clips) == ["low/0.wav", "high/2.wav"] and files(test, clips) == ["low/1.wav", "high/3.wav"]
    assert [(row.text, row.label, row.place) for row in train] == [
        ("low/0.wav", 1, "train.tsv:2"),
        ("high/2.wav", 0, "train.tsv:3"),
    ]
    assert train[0].digest == test[1].digest != train[1].digest


def test_paths_may_be_made_of_columns_and_answers_numbers(clips: Path, load: Load) -> None:
    table = "folder\tname\tpitch\nlow\t0\t3\nhigh\t2\t9.5\n"
    asked = {"inputs": "{folder}/{name}.wav", "label": "pitch", "head": "score", "validation": "dev.tsv"}
    data = load({"dev.tsv": table}, kind="sound", **asked)
    rows = data.splits["validation"]
    assert files(rows, clips) == ["low/0.wav", "high/2.wav"] and [row.score for row in rows] == [3.0, 9.5]


def test_files_are_rows_and_their_folders_labels(clips: Path, load: Load) -> None:
    data = load({}, kind="sound", layout="files", validation="*/*.wav")
    rows = data.splits["validation"]
    assert data.labels == ["high", "low"] and [row.label for row in rows] == [0, 0, 1, 1]
    assert [row.place for row in rows] == [row.text for row in rows] == files(rows, clips)
    parts = [{"path": f"{name}/*.wav", "fields": {"label": name[0]}} for name in ("low", "high")]
    data = load({}, kind="sound", layout="files", validation=parts)
    assert data.labels == ["h", "l"] and [row.label for row in data.splits["validation"]] == [1, 1, 0, 0]
    assert files_of(read_task(clips / "task.yaml"), clips) == []
    tables, beside = (
        {"dev.tsv": "path\tlabel\nlow/0.wav\tl\nhigh/2.wav\th\n"},
        {"path": "high/*.wav", "layout": "files"},
    )
    assert files(load(tables, **NAMED, predict=beside).splits["predict"], clips) == ["high/2.wav", "high/3.wav"]


def test_copies_of_a_recording_are_leaks(clips: Path, load: Load) -> None:
    tables = {
        "train.tsv": "path\tlabel\nlow/0.wav\tl\nlow/1.wav\tl\nhigh/2.wav\th\n",
        "dev.tsv": "path\tlabel\nhigh/3.wav\th\nlow/1.wav\tl\n",
        "copies.tsv": "path\tlabel\nhigh/3.wav\tl\n",
    }
    (said,) = checks.problems(load(tables, train="train.tsv", **NAMED))
    both = "dev.tsv:2 is train.tsv:2, dev.tsv:3 is train.tsv:3"
    assert said == f"2 of 2 rows of validation are in train, too ({both}); hold out others"
    torn = "2 of 5 rows are labelled differently in another row of the same recording"
    assert any(text.startswith(torn) for text in checks.remarks(load(tables, train="train.tsv", **NAMED)))
    (said,) = checks.problems(load(tables, train="train.tsv", **{**NAMED, "validation": "copies.tsv"}))
    assert said.startswith("1 of 1 rows of validation are in train, too (copies.tsv:2 is train.tsv:2)")


def test_copies_stay_together_where_rows_are_held_out(tmp_path: Path, load: Load) -> None:
    for number in range(20):
        written(tmp_path / "a" / f"{number}.wav", 300 + 20 * number, seed=number)
        (tmp_path / "b" / f"{number}.wav").parent.mkdir(exist_ok=True)
        (tmp_path / "b" / f"{number}.wav").write_bytes((tmp_path / "a" / f"{number}.wav").read_bytes())
    data = load({}, kind="sound", layout="files", train="*/*.wav", split={"validation": 0.3, "test": 0.3})
    numbers = {split: {Path(row.files[0]).name for row in rows} for split, rows in data.splits.items()}
    assert sum(map(len, numbers.values())) == 20 == len(set.union(*numbers.values()))
    assert all(numbers[split] for split in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("low/9.wav", r"dev.tsv line 3: 9.wav is not there; give the path of a recording, from .* on"),
        ("dev.tsv", r"line 3: dev.tsv is no recording that can be used \(not a WAV, FLAC or OGG file\)"),
        ("low", r"line 3: low is no plain file"),
        ("empty.wav", r"line 3: empty.wav is no recording that can be used \(empty file\)"),
        ("silent.wav", r"line 3: silent.wav is no recording that can be used \(no sample in it\)"),
        ("", r"line 3: 'path' is \"\"; expected text"),
    ],
)
def test_what_is_no_recording_is_named(clips: Path, load: Load, path: str, message: str) -> None:
    tables = {"dev.tsv": f"path\tlabel\nlow/0.wav\tl\n{path}\th\nhigh/2.wav\th\n"}
    tables |= {"empty.wav": b"", "silent.wav": wav(tone(0))}
    with pytest.raises(UserError, match=message):
        load(tables, **NAMED)
    data = load(tables, **NAMED, max_rejects=1)
    assert len(data.splits["validation"]) == 2 and "rows that cannot be used, left out: 1" in data.notes[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "text"}, r"head text is of kind text, and kind is sound; set it to one of class, score, tags"),
        ({"layout": "squad"}, "layout squad is of kind text, and kind is sound; write a table of paths"),
        (
            {"inputs": ["a", "b"], "head": "tags"},
            "inputs: of kind sound and head tags a row has one file; name the column",
        ),
        ({"validation": {"path": "dev.tsv", "inputs": "a"}, "test": {"path": "b", "inputs": ["a", "b"]}}, "as many fi"),
        ({"inputs": ["a", "b"], "layout": "files"}, "layout files has one file in a row; name the others in a table"),
        ({"inputs": ["a", "b"], "optional": ["b"]}, "optional is of kind text, and kind is sound; leave it out"),
        ({"prompt": "{a}"}, "prompt is of kind text, and kind is sound; leave it out"),
        ({"choices": {"a": "x", "b": "y"}}, "choices is of kind text, and kind is sound"),
        ({"kind": "sounds"}, r"kind: .*text, sound; did you mean sound"),
        ({"kind": "images"}, r"kind: .*text, sound"),
        ({"kind": "text", "layout": "files"}, "layout files is of rows that are files; set kind to sound"),
    ],
)
def test_settings_that_recordings_do_not_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_of({"kind": "sound", "inputs": ["path"], "validation": "dev.tsv", **settings}, "task.yaml")


def test_a_network_of_another_kind_is_refused_in_one_sentence(clips: Path, load: Load) -> None:
    load({"dev.tsv": "path\tlabel\nlow/0.wav\tl\nhigh/2.wav\th\n"}, **NAMED)
    config = LabelledConfig(task=str(clips / "task.yaml"))
    assert load_data(config, clips, kind="sound").kind == config.kind == "sound"
    with pytest.raises(
        UserError, match=r"task.yaml: its rows are of kind sound, and the network reads text; give rows"
    ):
        load_data(config, clips)
    (clips / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    with pytest.raises(UserError, match=r"rows.jsonl: its rows are of kind text, and the network reads sound"):
        load_data(LabelledConfig(path=str(clips / "rows.jsonl")), clips, kind="sound")


def test_rows_may_have_two_recordings_or_choices_of_them(clips: Path, load: Load) -> None:
    pairs = "a\tb\tsame\nlow/0.wav\tlow/1.wav\tyes\nlow/0.wav\thigh/2.wav\tno\nhigh/3.wav\tlow/1.wav\tyes\n"
    data = load({"dev.tsv": pairs}, kind="sound", inputs=["a", "b"], label="same", validation="dev.tsv")
    first, second, third = data.splits["validation"]
    names = [[str(Path(file).relative_to(clips)) for file in row.files] for row in (first, second)]
    assert names == [["low/0.wav", "low/1.wav"], ["low/0.wav", "high/2.wav"]]
    assert (first.text, first.text_pair, first.label) == ("low/0.wav", "low/1.wav", 1)
    assert first.digest == third.digest != second.digest  # the third is a copy of the first
    rows = [{"a": "low/0.wav", "of": ["high/2.wav", "low/1.wav"], "right": "low/1.wav"}]
    asked: dict[str, Any] = {"kind": "sound", "inputs": "a", "label": "right", "choices": "of"}
    (row,) = load({"dev.jsonl": rows}, validation="dev.jsonl", **asked).splits["validation"]
    assert row.choices == ("high/2.wav", "low/1.wav") and row.label == 1
    assert [Path(file).name for file in row.files] == ["0.wav", "2.wav", "1.wav"]
    with pytest.raises(UserError, match=r"dev.jsonl line 1: 9.wav is not there; give the path of a recording"):
        load({"dev.jsonl": [{**rows[0], "of": ["low/1.wav", "9.wav"]}]}, validation="dev.jsonl", **asked)
    for settings in ({"inputs": ["a", "b"]}, {"inputs": ["a"], "choices": "of"}):
        with pytest.raises(UserError, match=r"2.wav: rows have several recordings, and it is one; give a table of th"):
            laid_out(task_of({"kind": "sound", **settings}, "predict"), clips / "high" / "2.wav", None, Reading())


@pytest.mark.parametrize("learned", [{"inputs": ["path"]}, {"layout": "files"}])
def test_rows_to_predict_are_recordings_or_tables_of_them(clips: Path, learned: dict[str, Any]) -> None:
    task = task_of({"kind": "sound", "head": "class", **learned}, "predict")
    column = task.inputs[0] if task.inputs else "file"
    (clips / "low" / "new.csv").write_text(f"{column},other\n0.wav,1\n1.wav,2\n")
    for name, wanted in (("low/new.csv", ["low/0.wav", "low/1.wav"]), ("high/2.wav", ["high/2.wav"])):
        of_file = laid_out(task, clips / name, None, Reading())
        assert files([*unlabelled(of_file, Path(), "predict", Reading())], clips) == wanted
