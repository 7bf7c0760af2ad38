"""Checkpoints that somebody else may have written: refused with a sentence, or set aside for the one before."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_prep.errors import UserError
from tests.training.inference.test_strangers_folders import DEEP, refusal
from training.distributed import Worker
from training.engines import checkpoint as checkpoints
from training.engines.checkpoint_state import WEIGHT, Piece

IDENTITY = {"recipe": "tiny"}
RANK = "model/rank-00000-000.safetensors"
Harm = Callable[[Path], object]


class State:
    """An engine of one parameter and what its optimizer counts."""

    def __init__(self) -> None:
        self.weight, self.step = torch.arange(6.0), torch.tensor(3.0)

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]:
        yield [Piece("a.b", 0, {WEIGHT: self.weight, "step": self.step})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4):
        engines: Any = {"model": State()}
        position = checkpoints.Position(step, 24 * step)
        saved = checkpoints.save(tmp_path, position, engines, {"x": torch.ones(2)}, IDENTITY, Worker(), keep=2)
    return saved.folder


def marked(change: Callable[[dict[str, Any]], object]) -> Harm:
    """The marker, with a digest that fits what was made of it."""

    def do(folder: Path) -> None:
        marker = json.loads((folder / checkpoints.MARKER).read_bytes())
        del marker["digest"]
        change(marker)
        text = json.dumps({**marker, "digest": checkpoints._digest_of(marker)})
        (folder / checkpoints.MARKER).write_text(text)

    return do


def committed(name: str, change: Callable[[dict[str, Tensor]], object]) -> Harm:
    """Tensors of a file, with the digest that they have."""

    def do(folder: Path) -> None:
        values = {key: value.clone() for key, value in load_file(folder / name).items()}
        change(values)
        save_file(values, folder / name)
        marked(lambda marker: marker["files"].update({name: checkpoints._digest(folder, name)}))(folder)

    return do


def pickled(folder: Path) -> None:
    """A checkpoint of DeepSpeed's own, beside ours."""
    (folder / "model" / "mp_rank_00_model_states.pt").write_bytes(pickle.dumps(Ran(folder / "ran")))


class Ran:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


DAMAGE: dict[str, Harm] = {
    "deep marker": lambda folder: (folder / checkpoints.MARKER).write_bytes(DEEP),
    "a device": marked(lambda marker: marker["files"].update({"/dev/zero": "0" * 32})),
    "a file above": marked(lambda marker: marker["files"].update({"../../../etc/passwd": "0" * 32})),
    "files of a list": marked(lambda marker: marker.update(files=[RANK])),
    "digests of numbers": marked(lambda marker: marker.update(files={RANK: 1})),
    "no files": marked(lambda marker: marker.pop("files")),
    "steps of text": marked(lambda marker: marker.update(step="4")),
    "steps below none": marked(lambda marker: marker.update(step=-4)),
    "samples of no number": marked(lambda marker: marker.update(samples=float("nan"))),
    "phase of a list": marked(lambda marker: marker.update(phase=["train"])),
    "an unlisted file": lambda folder: (folder / "model" / "rank-00001-000.safetensors").write_bytes(b""),
    "an unlisted pickle": pickled,
    "a pipe": lambda folder: [(folder / RANK).unlink(), os.mkfifo(folder / RANK)],
    "a link out": lambda folder: [(folder / RANK).unlink(), (folder / RANK).symlink_to("/dev/zero")],
}


@pytest.mark.parametrize("harm", DAMAGE)
def test_damage_is_set_aside_for_the_one_before(harm: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    DAMAGE[harm](folder)
    chosen = checkpoints.newest(folder.parent, IDENTITY, Worker())
    assert chosen is not None and chosen.position.step == 2
    assert "damaged, skipped" in caplog.text and str(folder) in caplog.text
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("harm", DAMAGE)
def test_damage_is_refused_where_that_step_was_asked_for(harm: str, folder: Path) -> None:
    DAMAGE[harm](folder)
    assert str(folder.parent) in refusal(lambda: checkpoints.at(folder.parent, 4, Worker()))


OTHERS: dict[str, Harm] = {
    "a weight too short": committed(RANK, lambda values: values.update({"a.b/weight@0": torch.zeros(2)})),
    "a weight too few": committed(RANK, lambda values: values.pop("a.b/weight@0")),
    "not flat": committed(RANK, lambda values: values.update({"a.b/weight@0": torch.zeros(2, 3)})),
    "a scalar": committed(RANK, lambda values: values.update({"a.b/weight@0": torch.tensor(1.0)})),
    "no scalar": committed(RANK, lambda values: values.update({"a.b/step@0": torch.zeros(6)})),
    "no place": committed(RANK, lambda values: values.update({"a.b/weight@x": torch.zeros(6)})),
    "no name": committed(RANK, lambda values: values.update({"": torch.zeros(6)})),
    "weights twice": committed(RANK, lambda values: values.update({"a.b/weight@1": torch.zeros(6)})),
    "no tensors": lambda folder: [
        (folder / RANK).write_bytes(b"no tensors"),
        marked(lambda marker: marker["files"].update({RANK: checkpoints._digest(folder, RANK)}))(folder),
    ],
}


@pytest.mark.parametrize("harm", OTHERS)
def test_state_of_another_network_is_refused(harm: str, folder: Path) -> None:
    OTHERS[harm](folder)
    chosen = checkpoints.at(folder.parent, 4, Worker())
    engines: Any = {"model": State()}
    assert "holds the state of another network" in refusal(lambda: checkpoints.load(chosen, engines))


def test_whole_state_is_read(folder: Path) -> None:
    engines: Any = {"model": State()}
    engines["model"].weight.zero_()
    assert checkpoints.load(checkpoints.at(folder.parent, 4, Worker()), engines)["x"].tolist() == [1, 1]
    assert engines["model"].weight.tolist() == list(range(6))
    with pytest.raises(UserError, match="no checkpoint of step 3"):
        checkpoints.at(folder.parent, 3, Worker())
