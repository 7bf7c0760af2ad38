"""`sesame export`: an ONNX file gives the network's numbers for rows of any length, and is written whole or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from flows.inference import export
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.heads import Shape, softmax
from tests.pipeline.downstream.fine_tune.answering import made, network_of
from tests.training.inference import writers
from training.inference import onnx

is_missing = any(onnx.find_spec(name) is None for name in onnx.PACKAGES)
installed = pytest.mark.skipif(is_missing, reason="the extra `onnx` is not installed")
TEXTS = ["a", "b c d", "d d d d a b c a", "a b b"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network_of(tmp_path_factory.mktemp("network"))


def asked(folder: Path, texts: list[Any]) -> np.ndarray:
    """What the folder's files alone give for texts, as a batch with padding."""
    import onnxruntime

    about = json.loads((folder / export.ABOUT).read_text())
    tokenizer = Tokenizer.from_file(str(folder / export.TOKENIZER))
    tokenizer.enable_padding(pad_id=about["pad"])
    encodings = tokenizer.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    given = {name: np.array([getattr(e, columns[name]) for e in encodings], np.int64) for name in about["inputs"]}
    (scores,) = onnxruntime.InferenceSession(folder / onnx.FILE).run([about["output"]["name"]], given)
    return scores


def saved(model: exported.FineTuned, folder: Path) -> Path:
    exported.save(folder, model)
    return folder


@installed
def test_labels_are_those_of_the_evaluation(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = Shape("class", ("no", "yes", "perhaps"))
    model, out = made(network, shape, pooling="mean"), tmp_path / "out"
    export.export(str(saved(model, tmp_path / "fine-tuned")), str(out), "onnx", True)
    about = json.loads((out / export.ABOUT).read_text())
    assert about["labels"] == list(shape.labels) and about["inputs"]["input_ids"] == ["batch", "length"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["checked"]["difference"] < onnx.TOLERANCE
    scores = asked(out, TEXTS)
    wanted = model.predict([Example(text=text) for text in TEXTS])
    assert scores.argmax(-1).tolist() == wanted.answers
    assert softmax(scores.astype(np.float64)).max(-1) == pytest.approx(wanted.scores, abs=1e-4)
    assert {path.name for path in out.iterdir()} == {onnx.FILE, export.ABOUT, export.TOKENIZER}
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export.export(str(tmp_path / "fine-tuned"), str(out), "onnx", False)


@installed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "pooling"),
    [
        (Shape("score", scale=(3.0, 2.0)), "last"),
        (Shape("tags", ("O", "X")), "cls"),
        (Shape("choice"), "cls"),
        (Shape("answer", unanswerable=True, threshold=-1.25), "cls"),
    ],
)
def test_other_heads_give_what_they_say(network: Path, tmp_path: Path, shape: Shape, pooling: Any) -> None:
    model, out = made(network, shape, pooling=pooling), tmp_path / "out"
    export.export(str(saved(model, tmp_path / "fine-tuned")), str(out), "onnx", False)
    if shape.head == "score":
        wanted = model.predict([Example(text=text) for text in TEXTS]).answers
        assert asked(out, TEXTS)[:, 0] == pytest.approx(wanted, abs=1e-4)
    elif shape.head == "choice":
        answers = model.predict([Example(text="a b", choices=tuple(TEXTS))])
        scores = asked(out, [("a b", text) for text in TEXTS])
        assert int(scores.argmax()) == answers.answers[0]
        assert softmax(scores.T.astype(np.float64)).max() == pytest.approx(answers.scores[0], abs=1e-4)
    elif shape.head == "answer":
        ((rows, wanted),) = model.scored([Example(TEXTS[2], text_pair="b c")])
        scores = asked(out, [("b c", TEXTS[2])])
        about = json.loads((out / "onnx.json").read_text())
        assert (about["threshold"], about["window_overlap"], about["max_answer"]) == (-1.25, 5, 30)
        assert len(rows.rows["input"]) == 1 and scores.shape == (1, 13, 2)
        assert scores[0] == pytest.approx(wanted.row(0), abs=1e-4) and scores.std() > 0.01
    else:
        wanted = model.predict([Example(words=tuple(text.split())) for text in TEXTS]).answers
        tags = asked(out, TEXTS).argmax(-1)
        assert [row[1 : 1 + len(tags_of)].tolist() for row, tags_of in zip(tags, wanted, strict=True)] == wanted


@installed
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "gpt2", "llama"])
def test_encoders_of_other_kinds_are_written(tmp_path: Path, architecture: str) -> None:
    folder, out = writers.write(tmp_path / "network", architecture), tmp_path / "out"
    export.export(str(folder), str(out), "onnx", False)
    about = json.loads((out / export.ABOUT).read_text())
    assert about["output"]["name"] == "last_hidden_state"
    assert about["pooling"] == ("mean" if architecture == "t5" else "last")
    assert asked(out, ["the cat", "a dog and a log"]).shape[2] == 32


class Broken(nn.Module):
    """Gives other numbers than what was written."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids + 2 * attention_mask)[..., None].float()


class Written(Broken):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids + attention_mask)[..., None].float()


@installed
def test_another_network_than_was_written_is_noticed(tmp_path: Path) -> None:
    names = ["input_ids", "attention_mask"]
    *_, example = onnx.batches(names, 9, 1, 0, None)
    onnx.write(Written(), example, "scores", tmp_path / "x.onnx")
    assert onnx.check(tmp_path / "x.onnx", Written(), onnx.batches(names, 9, 1, 0, None)) == 0
    with pytest.raises(UserError, match=r"differs by .* from the network for rows of 1 × 1"):
        onnx.check(tmp_path / "x.onnx", Broken(), onnx.batches(names, 9, 1, 0, None))


def test_rows_that_are_compared_are_of_mixed_lengths_and_fit_the_network() -> None:
    for batch in onnx.batches(["input_ids", "attention_mask"], 9, 1, 3, 16):
        lengths = batch["attention_mask"].sum(1)
        assert int(lengths.min()) >= 1 and int(lengths.max()) == batch["input_ids"].shape[1] <= 16
        assert bool((batch["input_ids"][batch["attention_mask"] == 0] == 3).all())
    assert len(set(lengths.tolist())) > 1


def test_what_cannot_be_written_is_said_before_anything_is(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--to:"):
        export.export(str(network), str(out), "onxx", False)
    monkeypatch.setattr(onnx, "check_packages", lambda: None)
    written = saved(made(network, Shape("class", ("no", "yes"))), tmp_path / "written")
    values = json.loads((written / "task.json").read_text())
    monkeypatch.setattr(export, "_write", lambda *_: (_ for _ in ()).throw(UserError("no such operator.")))
    with pytest.raises(UserError, match="no such operator"):
        export.export(str(written), str(out), "onnx", False)
    assert values["shape"]["head"] == "class" and not out.exists() and not list(tmp_path.glob(".out*"))
    (tmp_path / "elmo").mkdir()
    (tmp_path / "elmo" / "config.json").write_text('{"kind": "elmo"}')
    with pytest.raises(UserError, match="ONNX is written of networks of `transformers`"):
        export.export(str(tmp_path / "elmo"), str(out), "onnx", False)
    experts = writers.write(tmp_path / "switch", "switch_transformers")
    with pytest.raises(UserError, match="which expert a token goes to depends on all others, and has no form in ONNX"):
        export.export(str(experts), str(out), "onnx", False)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=r"ONNX needs onnxscript: pip install 'sesame-ssl\[onnx\]'"):
        onnx.check_packages()
