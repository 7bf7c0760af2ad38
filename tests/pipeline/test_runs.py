"""Run records tell what became of a run, also of one whose process is gone."""

from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline import runs
from pipeline.recipe.load import load


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_last(tmp_path: Path) -> None:
    recipe = load("quickstart")
    first, second = runs.begin(tmp_path, recipe), runs.begin(tmp_path, recipe)
    for run in (first, second):
        run.status = runs.DONE
        runs.save(tmp_path, run)
    assert runs.find(tmp_path, "last").run_id == second.run_id
    assert runs.find(tmp_path, first.run_id) == first
    assert runs.recipe_of(tmp_path, first) == recipe
    with pytest.raises(UserError, match=r"no run is called 'other'; `sesame runs` lists them"):
        runs.find(tmp_path, "other")


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    run = runs.begin(tmp_path, load("quickstart"))
    runs.save(tmp_path, run)
    assert runs.find(tmp_path, "last").status == runs.RUNNING
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    runs.save(tmp_path, dataclasses.replace(run, pid=int(gone.stdout)))
    assert runs.find(tmp_path, "last").status == runs.INTERRUPTED


@pytest.mark.parametrize("fails", ["write_text", "replace"])
def test_a_record_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    run = runs.begin(tmp_path, load("quickstart"))
    write = Path.write_text

    def full(path: Path, *arguments: object) -> None:
        write(path, "{")  # what there is room for
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, fails, full)
        with pytest.raises(OSError, match="No space"):
            runs.save(tmp_path, dataclasses.replace(run, status=runs.DONE))
        with pytest.raises(OSError, match="No space"):
            runs.begin(tmp_path, load("quickstart"))
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
    with pytest.raises(OSError, match="Input/output"):
        runs.begin(tmp_path, load("quickstart"))
    assert runs.all_runs(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_numbers_of_a_summary() -> None:
    summary = {"rows": 3, "share": 0.5, "flag": True, "text": "x", "train": {"rows": 2, "list": [1, 2]}, "none": None}
    assert runs.numbers(summary) == {"rows": 3.0, "share": 0.5, "train.rows": 2.0}
