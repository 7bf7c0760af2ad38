"""`sesame generate`: texts on the terminal and in files, and one sentence for what cannot be completed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_prep.errors import UserError
from flows.checkpoint import model_folder
from flows.cli import app
from flows.inference.generate import Prompt, _Shown, read_prompts
from flows.show.console import new_console
from pipeline import runs
from pipeline.artifact import Artifact
from pipeline.stages.pretrain import MODEL
from pipeline.store.store import Store
from pipeline.tracking.registry import Registry, Version
from tests.said import said
from tests.training.inference import writers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writers.write(tmp_path_factory.mktemp("gpt2"), "gpt2")


def run(folder: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["generate", str(folder), *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_prompt_is_completed_on_the_terminal_as_in_the_file(folder: Path, tmp_path: Path) -> None:
    whole = json.loads(run(folder, "the cat", "-n", "9", "--json").stdout)
    [line] = whole["completions"]
    assert line["prompt"] == "the cat" and line["completion"] and whole["tokens"] == 9
    shown = run(folder, "the cat", "-n", "9").stdout
    assert "the cat" in shown and line["ended"] in shown
    out = tmp_path / "new" / "texts.jsonl"
    run(folder, "the cat", "-n", "9", "-o", str(out))
    assert [json.loads(text) for text in out.read_text().splitlines()] == [line]
    assert list(out.parent.iterdir()) == [out]


def test_prompts_of_a_file_keep_their_order_and_what_is_beside_them(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "the cat sat on a mat", "id": 7}, {"prompt": "on", "id": 8}, {"prompt": "a dog", "tags": ["x"]}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = ("-f", str(file), "-n", "12", "--temperature", "1.2", "--json")
    lines = json.loads(run(folder, *drawn).stdout)["completions"]
    assert [{name: line[name] for name in row} for line, row in zip(lines, rows, strict=True)] == rows
    assert json.loads(run(folder, *drawn, "--batch", "1").stdout)["completions"] == lines
    other = json.loads(run(folder, *drawn, "--seed", "4").stdout)["completions"]
    assert [line["completion"] for line in other] != [line["completion"] for line in lines]
    shown = run(folder, "-f", str(file), "-n", "4").stdout
    assert [shown.index(f"{number}. {row['prompt']}") for number, row in enumerate(rows, 1)] == sorted(
        shown.index(f"{number}. {row['prompt']}") for number, row in enumerate(rows, 1)
    )


def test_on_the_terminal_a_prompt_stands_once(tmp_path: Path, folder: Path) -> None:
    for model, after in ((folder, "the cat"), (writers.write(tmp_path / "t5", "t5"), "the cat\n")):
        shown = run(model, "the cat", "-n", "9").stdout
        assert shown.startswith(after) and shown.count("the cat") == 1
    console = new_console()
    with console.capture() as captured:
        shown = _Shown(console, [Prompt("the cat")], "\n")
        for text in ("", "", "sat", "sat on"):
            shown.add(0, text)
        shown.end(0, "sat on a mat", "eos")
    assert captured.get() == "the cat\nsat on a mat\n"


def test_what_was_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    row = {"prompt": "the cat\u2028sat\x85on", "emoji": "\U0001f600"}
    file, out, again = (tmp_path / name for name in ("prompts.jsonl", "texts.jsonl", "again.jsonl"))
    file.write_text(json.dumps(row) + "\n")
    run(folder, "-f", str(file), "-n", "2", "-o", str(out))
    again.write_bytes(out.read_bytes().replace(b'"completion"', b'"before"').replace(b'"ended"', b'"why"'))
    [prompt] = read_prompts(again)
    assert prompt.text == row["prompt"] and prompt.row["emoji"] == row["emoji"]


def test_control_characters_are_seen_and_not_obeyed(folder: Path) -> None:
    shown = run(folder, "the \x1b[31mcat\u202e", "-n", "2").stdout
    assert "\x1b[31m" not in shown and "␛[31mcat�" in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give either a prompt or --file"),
        (["x", "-f", "y"], "give either a prompt or --file"),
        ([""], "prompt 1 is empty"),
        (["x \udcff"], r"prompt 1 holds '.udcff', half of a surrogate pair or a byte that is not UTF-8"),
        (["the cat " * 99], "positions; shorten it"),
        (["x", "--top-k", "0"], "top-k: nothing can be drawn from 0"),
        (["x", "--temperature", "0"], "temperature: 0 is no temperature"),
        (["x", "--beams", "3", "--top-p", "0.5"], "beams: beam search takes the likeliest"),
        (["-f", "nowhere.txt"], "nowhere.txt is not there"),
        (["x", "--device", "cuda:9"], "device"),
    ],
)
def test_what_cannot_be_completed_is_refused(arguments: list[str], text: str, folder: Path) -> None:
    with pytest.raises(UserError, match=text) as caught:
        run(folder, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", b"", "is empty; write one prompt a line"),
        ("a.txt", b"one\n\ntwo\n", "line 2: holds nothing where a prompt should be"),
        ("a.txt", b"one\n\xff\n", "line 2 holds the byte 0xff, not UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\nnot json\n', "line 2: it is no JSON"),
        ("a.jsonl", b'{"text": "a"}\n', "line 1: holds nothing where a prompt"),
        ("a.jsonl", b'{"prompt": 3}\n', "line 1: holds 3 where a prompt"),
        ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n', "has 'completion' already"),
        ("a.jsonl", b'{"prompt": "a", "x": [NaN]}\n', "line 1: it holds NaN, which is no finite number"),
        ("a.jsonl", b'{"prompt": "a", "x": -1e999}\n', "line 1: it holds -1e999, which is no finite number"),
        ("a.jsonl", b'"a"\n{"prompt": "a", "x": "\\ud83d"}\n', r"line 2: it holds half of a surrogate pair"),
    ],
)
def test_files_that_hold_no_prompts_are_refused_by_line(name: str, content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=text):
        read_prompts(tmp_path / name)


def test_texts_and_texts_in_json_are_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.txt")] == ["one", "two"]
    (tmp_path / "a.jsonl").write_text('"one"\n{"prompt": "two"}')
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.jsonl")] == ["one", "two"]


def test_a_network_is_found_by_any_of_its_names(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert model_folder(str(folder)) == folder
    assert folder.name == MODEL and model_folder(str(folder.parent)) == folder  # an artifact's folder
    with pytest.raises(UserError) as caught:
        model_folder("gpt-nobody-made")
    for text in ("no such folder", "no artifact in", "no run is called", "no model is registered"):
        assert said(text, str(caught.value))
    asked = []
    manifest: Any = {"files": {f"{MODEL}/config.json": {}}}
    made = Artifact("pretrain-1", folder.parent, manifest)
    monkeypatch.setattr(Store, "check_whole", lambda self, artifact: artifact)
    monkeypatch.setattr(Store, "resolve", lambda self, key: asked.append(key) or known(key))

    def known(key: str) -> Artifact:
        if key != "pretrain-1":
            raise UserError("no such key")
        return made

    run = runs.Run("gpt-1234", "gpt", None, stages={"pretrain": runs.StageRecord("pretrain-1", "", False, 0.0)})
    (tmp_path / "runs").mkdir()
    runs.save(tmp_path / "runs", run)
    assert model_folder("gpt") == model_folder("last") == model_folder("pretrain-1") == folder
    version = Version("mine", "3", None, "pretrain-1", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(Registry, "champion", lambda self, name: version if name == "mine" else None)
    monkeypatch.setattr(Registry, "version", lambda self, name, number: version)
    assert model_folder("mine") == model_folder("mine@3") == folder
    monkeypatch.setattr(
        Registry, "with_alias", lambda self, name, alias: self.champion(name) if alias == "best" else None
    )
    assert model_folder("models:/mine@best") == model_folder("models:/mine/3") == model_folder("models:/mine") == folder
    with pytest.raises(UserError, match="no model is registered as 'models:/mine@worst'"):
        model_folder("models:/mine@worst")
    with pytest.raises(UserError, match="no model is registered as 'theirs'"):
        model_folder("theirs")
    made.manifest["files"].clear()
    with pytest.raises(UserError, match="pretrain-1: holds no model"):
        model_folder("gpt")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; name the folder"):
        model_folder(str(tmp_path / "file"))
