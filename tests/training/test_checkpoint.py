"""A checkpoint is whole or absent, belongs to one recipe, and says when it was damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import UserError
from tests.training import tiny
from training import checkpoint as checkpoints
from training.config import PlacementConfig

PLACEMENT = PlacementConfig(checkpoint_every=4, keep_checkpoints=2)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12).run()
    return tmp_path


def test_the_newest_are_kept(trained: Path) -> None:
    found = checkpoints.committed(trained)
    assert [c.position.step for c in found] == [8, 12]
    assert [c.position.samples for c in found] == [8 * 24, 12 * 24]
    assert sorted(p.name for p in trained.iterdir()) == [c.folder.name for c in found]


def test_without_its_marker_it_is_no_checkpoint(trained: Path) -> None:
    newest = checkpoints.committed(trained)[-1]
    (newest.folder / checkpoints.MARKER).unlink()
    summary = tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()
    assert summary["resumed_from"] == 8


def test_another_recipe_is_refused_by_name(trained: Path) -> None:
    other = tiny.training(placement=PLACEMENT, checkpoints=trained, identity={"recipe": "other"})
    with pytest.raises(UserError, match=r"made with recipe tiny, the run asks for other"):
        other.run()


def test_every_damaged_file_is_named(trained: Path) -> None:
    newest = checkpoints.committed(trained)[-1]
    files = json.loads((newest.folder / checkpoints.MARKER).read_text())["files"]
    assert len(files) >= 2
    for name in files:
        path = newest.folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match=rf"{path.name}: damaged .*delete this checkpoint"):
            tiny.training(placement=PLACEMENT, checkpoints=trained).run()
        path.write_bytes(whole)


@pytest.mark.parametrize("call", range(1, 7))
def test_a_crash_at_any_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """The k-th write of the second checkpoint fails; the run goes on from the first and ends as if nothing happened."""
    whole = tiny.losses(steps=12)
    count = 0

    def striking(original: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if checkpoints.committed(tmp_path):
                count += 1
                if count == call:
                    raise OSError(28, "No space left on device")
            return original(*arguments, **options)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", striking(torch.save))
        patch.setattr(Path, "mkdir", striking(Path.mkdir))
        patch.setattr(Path, "replace", striking(Path.replace))
        patch.setattr("os.fsync", striking(__import__("os").fsync))
        try:
            tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12).run()
        except OSError as error:
            assert error.errno == 28
    struck = count >= call
    rest: list[dict[str, Any]] = []
    summary = tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12, log=rest.append).run()
    assert summary["resumed_from"] in (4, 8) if struck else True
    assert struck
    assert [r["loss"] for r in rest if "loss" in r] == whole[summary["resumed_from"] :]
