"""A checkpoint is whole or absent, belongs to one recipe, and says when it was damaged."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from data_prep.errors import UserError
from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig
from training.distributed import Worker
from training.engines import checkpoint as checkpoints
from training.engines import checkpoint_state
from training.engines.plain import FrozenEngine

PLACEMENT = PlacementConfig(checkpoint_every=4, keep_checkpoints=2)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12).run()
    return tmp_path


def test_the_newest_are_kept(trained: Path) -> None:
    kept = checkpoints.committed(trained)
    assert [c.position.step for c in kept] == [8, 12]
    assert [c.position.samples for c in kept] == [8 * 24, 12 * 24]
    assert sorted(p.name for p in trained.iterdir()) == [c.folder.name for c in kept]


def test_without_its_marker_it_is_no_checkpoint(trained: Path) -> None:
    newest = checkpoints.committed(trained)[-1]
    (newest.folder / checkpoints.MARKER).unlink()
    summary = tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()
    assert summary["resumed_from"] == 8


def test_another_recipe_is_refused_by_name(trained: Path) -> None:
    other = tiny.training(placement=PLACEMENT, checkpoints=trained, identity={"recipe": "other"})
    with pytest.raises(UserError, match=r"made with recipe tiny, the run asks for other"):
        other.run()


def flipped(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_json(path: Path) -> None:
    path.write_bytes(b"\xff\x00 checkpoint")


def other_json(path: Path) -> None:
    path.write_text("[]")


def another_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"samples": 288', '"samples": 289'))


def another_format(path: Path) -> None:
    marker = {**json.loads(path.read_text()), "format": 1}
    del marker["digest"]
    path.write_text(json.dumps({**marker, "digest": checkpoints._digest_of(marker)}))


@pytest.mark.parametrize("harm", [flipped, truncated, emptied, Path.unlink])
def test_a_damaged_file_is_named_and_the_one_before_used(
    trained: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    newest = checkpoints.committed(trained)[-1]
    uninterrupted = tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12)
    assert uninterrupted.run()["resumed_from"] == 12
    names = list(newest.marker["files"])
    assert len(names) == 2
    for name in names:
        newest = checkpoints.committed(trained)[-1]
        harm(newest.folder / name)
        caplog.clear()
        again = tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12)
        summary = again.run()
        assert summary["resumed_from"] == 8
        assert [(record.name, record.levelname) for record in caplog.records] == [("sesame.training", "WARNING")]
        assert f"{newest.folder}: damaged, skipped: {name}: " in caplog.text
        assert again.evaluate() == uninterrupted.evaluate()
        # It is gone once a newer one is whole, which is now used.
        assert [c.position.step for c in checkpoints.committed(trained)] == [8, 12]
        assert len(list(trained.iterdir())) == 2 and not newest.folder.exists()


@pytest.mark.parametrize("harm", [truncated, emptied, no_json, other_json, another_number, another_format])
def test_a_torn_marker_is_named_and_the_one_before_used(
    trained: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    newest = checkpoints.committed(trained)[-1]
    harm(newest.folder / checkpoints.MARKER)
    assert [c.position.step for c in checkpoints.committed(trained)] == [8]
    assert tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()["resumed_from"] == 8
    assert f"{newest.folder}: damaged, skipped: checkpoint.json: " in caplog.text


def test_with_none_whole_training_begins_anew_and_says_so(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    older, newer = checkpoints.committed(trained)
    truncated(older.folder / "objective.safetensors")
    truncated(newer.folder / checkpoints.MARKER)
    assert tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()["resumed_from"] == 0
    assert f"{trained}: no checkpoint is whole; training starts from step 0" in caplog.text
    assert [c.position.step for c in checkpoints.committed(trained)] == [8, 12]


def test_an_unreadable_file_is_damage(
    trained: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = checkpoints.committed(trained)[-1]
    opened = Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.parent.parent == newest.folder:
            raise OSError(5, "Input/output error")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    assert tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()["resumed_from"] == 8
    assert "cannot be read: Input/output error" in caplog.text


def test_what_a_crash_left_is_removed(trained: Path) -> None:
    left = trained / "step-00000016-0123abcd"
    left.mkdir()
    (left / "half").write_bytes(bytes(100))
    tiny.training(placement=PLACEMENT, checkpoints=trained, steps=12).run()
    assert not left.exists()


def _resume_damaged(worker: Worker, folder: Path) -> int:
    return tiny.training(worker, placement=PLACEMENT, checkpoints=folder, steps=12).run()["resumed_from"]


def test_all_ranks_agree_which_one_is_whole(tmp_path: Path) -> None:
    """The damage is in a file that only one of the ranks looks at."""
    assert in_group(2, _resume_damaged, tmp_path) == [0, 0]
    newest = checkpoints.committed(tmp_path)[-1]
    flipped(newest.folder / sorted(newest.marker["files"])[1])
    assert in_group(2, _resume_damaged, tmp_path) == [8, 8]


@pytest.mark.parametrize("call", range(1, 8))
def test_a_crash_at_any_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """The k-th write of the second checkpoint fails; the run goes on from the first and ends as if nothing happened."""
    uninterrupted = tiny.losses(steps=12)
    count, thread = 0, threading.get_ident()  # what other tests have left running writes, too

    def striking(original: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if threading.get_ident() == thread and checkpoints.committed(tmp_path):
                count += 1
                if count == call:
                    raise OSError(28, "No space left on device")
            return original(*arguments, **options)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_state, "write_tensors", striking(checkpoint_state.write_tensors))
        patch.setattr(Path, "mkdir", striking(Path.mkdir))
        patch.setattr(Path, "replace", striking(Path.replace))
        patch.setattr("os.fsync", striking(__import__("os").fsync))
        try:
            tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12).run()
        except OSError as error:
            assert error.errno == 28
    assert count >= call
    rest: list[dict[str, Any]] = []
    summary = tiny.training(placement=PLACEMENT, checkpoints=tmp_path, steps=12, log=rest.append).run()
    assert summary["resumed_from"] in (4, 8)
    assert [r["train/loss"] for r in rest if "train/loss" in r] == uninterrupted[summary["resumed_from"] :]


def test_a_checkpoint_is_none_before_its_files_go(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while one is removed must not leave a marker beside half of the files."""
    left: list[list[str]] = []
    monkeypatch.setattr(
        checkpoints.shutil, "rmtree", lambda folder, **_: left.append(sorted(path.name for path in folder.iterdir()))
    )
    newest = checkpoints.committed(trained)[-1]
    checkpoints.remove(newest.folder)
    assert left == [["model", "objective.safetensors"]]
    assert [c.position.step for c in checkpoints.committed(trained)] == [8]


def test_the_marker_comes_when_all_files_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = checkpoints.write_whole

    def noted(path: Path, text: str) -> None:
        written.extend(sorted(str(p.relative_to(path.parent)) for p in path.parent.rglob("*") if p.is_file()))
        original(path, text)

    monkeypatch.setattr(checkpoints, "write_whole", noted)
    tiny.training(placement=PlacementConfig(), checkpoints=tmp_path, steps=1).run()
    assert written == ["model/rank-00000-000.safetensors", "objective.safetensors"]


def test_the_checkpoint_of_a_step_is_the_one_that_was_written_last(trained: Path) -> None:
    first = checkpoints.at(trained, 8, Worker())
    again = shutil.copytree(first.folder, trained / "step-00000008-00000000")
    os.utime(again / checkpoints.MARKER, (2e9, 2e9))
    assert checkpoints.at(trained, 8, Worker()).folder == again
    assert [c.position.step for c in checkpoints.committed(trained)] == [8, 8, 12], "by step before time"
    with pytest.raises(UserError, match=r"no checkpoint of step 4; there are 8, 8, 12 "):
        checkpoints.at(trained, 4, Worker())
    flipped(again / "objective.safetensors")
    with pytest.raises(UserError, match=r"00000000: damaged: objective\..*; choose another step, there are 12\."):
        checkpoints.at(trained, 8, Worker())


def test_a_position_is_kept_with_its_phase(tmp_path: Path) -> None:
    position = checkpoints.Position(5, 120, "rbm-1")
    engines: Any = {"still": FrozenEngine(nn.Linear(2, 2).requires_grad_(False), Worker())}
    checkpoints.save(tmp_path, position, engines, {}, {}, Worker(), keep=1)
    assert [kept.position for kept in checkpoints.committed(tmp_path)] == [position]
