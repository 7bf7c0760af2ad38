"""Run records tell what became of a run, also of one whose process is gone."""

from __future__ import annotations

import dataclasses
import errno
import json
import time
from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline import runs
from pipeline.recipe.load import load
from pipeline.store import live


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_last(tmp_path: Path) -> None:
    recipe = load("quickstart")
    with runs.begin(tmp_path, recipe) as first, runs.begin(tmp_path, recipe) as second:
        for run in (first, second):
            run.status = runs.DONE
            runs.save(tmp_path, run)
    assert runs.find(tmp_path, "last").run_id == second.run_id
    assert runs.find(tmp_path, first.run_id) == first
    assert runs.recipe_of(tmp_path, first) == recipe
    with pytest.raises(UserError, match=r"no run is called 'other'; `sesame runs` lists them"):
        runs.find(tmp_path, "other")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_is_running_while_its_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """Seen from the host it runs on, and from another one, on which its process number may be anybody's."""
    with runs.begin(tmp_path, load("quickstart")) as run:
        beat = (tmp_path / f"{run.run_id}{live.LIVE_SUFFIX}").read_bytes()
        if elsewhere:
            monkeypatch.setattr(live, "machine", lambda: "another")
        assert runs.find(tmp_path, "last").status == runs.RUNNING
    assert runs.find(tmp_path, "last").status == runs.INTERRUPTED
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".yaml"]

    gone = json.loads(beat) | {"pid": 2**22 + 1, "started": 1.0, "time": time.time() - 2 * live.GRACE_SECONDS}
    (tmp_path / f"{run.run_id}{live.LIVE_SUFFIX}").write_text(json.dumps(gone))
    assert runs.find(tmp_path, "last").status == runs.INTERRUPTED


def test_a_run_that_ends_between_two_looks_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runs.begin(tmp_path, load("quickstart")) as run:

        def end(heartbeat: bytes | None) -> bool:
            runs.save(tmp_path, dataclasses.replace(run, status=runs.DONE))
            return False

        monkeypatch.setattr(runs, "is_live", end)
        assert runs.find(tmp_path, "last").status == runs.DONE


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_a_record_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    write = Path.write_bytes

    def full(path: Path, *arguments: object) -> None:
        write(path, b"{")  # what there is room for
        raise OSError(errno.ENOSPC, "No space left on device")

    with runs.begin(tmp_path, load("quickstart")) as run:
        with monkeypatch.context() as patch:
            patch.setattr(Path, fails, full)
            with pytest.raises(OSError, match="No space"):
                runs.save(tmp_path, dataclasses.replace(run, status=runs.DONE))
            with pytest.raises(OSError, match="No space"), runs.begin(tmp_path, load("quickstart")):
                pass
        assert runs.find(tmp_path, "last") == run
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{run.run_id}.json", f"{run.run_id}.yaml"]


def test_a_record_that_is_there_in_spite_of_an_error_is_never_without_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def done_and_failed(self: Path, target: Path) -> Path:
        replace(self, target)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", done_and_failed)
    with pytest.raises(OSError, match="Input/output"), runs.begin(tmp_path, load("quickstart")):
        pass
    assert runs.all_runs(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_numbers_of_a_summary() -> None:
    summary = {"rows": 3, "share": 0.5, "flag": True, "text": "x", "train": {"rows": 2, "list": [1, 2]}, "none": None}
    assert runs.numbers(summary) == {"rows": 3.0, "share": 0.5, "train.rows": 2.0}
