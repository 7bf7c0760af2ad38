"""Finished pieces of work: whole or absent, and nothing is left of processes that died."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus import unit_cache
from tests.data_prep.test_ingest import contents, make, prose


def test_a_unit_is_whole_or_absent(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "a").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        unit_cache.make(tmp_path, "k", write)
    assert unit_cache.find(tmp_path, "k") is None and list(tmp_path.iterdir()) == []
    assert unit_cache.make(tmp_path, "k", lambda folder: {"n": (folder / "a").write_text("whole")}) == {"n": 5}
    assert unit_cache.make(tmp_path, "k", write) == {"n": 5}


def test_a_unit_may_have_folders(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("whole")
        return {"n": 1}

    assert unit_cache.make(tmp_path, "k", write) == {"n": 1} == unit_cache.find(tmp_path, "k")
    (tmp_path / "k" / "inner" / "file").write_text("spoilt")
    assert unit_cache.find(tmp_path, "k") is None


def test_units_of_no_use_are_collected(tmp_path: Path) -> None:
    for key in ("old", "new"):
        unit_cache.make(tmp_path, key, lambda folder: {"n": (folder / "a").write_text("some text")})
    (tmp_path / ".draft-x").mkdir()
    for name in ("old", ".draft-x"):
        os.utime(tmp_path / name, (0, 0))
    size = sum(path.stat().st_size for path in (tmp_path / "old").iterdir())
    assert unit_cache.collect(tmp_path, 60, dry_run=True) == [(tmp_path / ".draft-x", 0), (tmp_path / "old", size)]
    assert len(unit_cache.collect(tmp_path, 60)) == 2 and [path.name for path in tmp_path.iterdir()] == ["new"]
    assert unit_cache.collect(tmp_path / "absent", 60) == []


# -- drafts of the dead ------------------------------------------------------------------------------------------------

WORKING = """
import sys
from pathlib import Path
from data_prep.corpus import unit_cache

def write(folder):
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()

unit_cache.make(Path(sys.argv[1]), "k", write)
"""


def working(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is at a unit, and its draft."""
    command = [sys.executable, "-c", WORKING, str(folder)]
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_next_ingest_removes_the_drafts_of_the_dead_alone(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text(prose(1))
    folder = tmp_path / "downloads-out" / "units"
    folder.mkdir(parents=True)
    (dead, left), (alive, draft) = working(folder), working(folder)
    try:
        dead.kill()
        dead.wait(30)
        assert (left / "half").exists()
        make(tmp_path, text)
        assert not left.exists() and (draft / "half").exists()
        assert draft not in [path for path, _ in unit_cache.collect(folder, 0, dry_run=True)]
        alive.kill()
        alive.wait(30)
        before = contents(tmp_path / "out")
        make(tmp_path, text)
        assert not list(folder.glob(".draft-*")) and contents(tmp_path / "out") == before
    finally:
        for process in (dead, alive):
            process.kill()
            process.communicate()


def test_young_drafts_of_the_dead_are_collected_and_those_of_the_living_never(tmp_path: Path) -> None:
    process, draft = working(tmp_path)
    os.utime(draft, (0, 0))
    try:
        assert unit_cache.sweep(tmp_path) == [] == unit_cache.collect(tmp_path, 60)
    finally:
        process.kill()
        process.communicate()
    os.utime(draft)
    assert unit_cache.collect(tmp_path, 60) == [(draft, 4)] and not draft.exists()


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows none: work goes on, nothing is taken for dead, and `collect` looks at the clock."""

    def none(*_: Any) -> None:
        raise OSError(38, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    assert unit_cache.make(tmp_path, "k", lambda folder: {"n": (folder / "a").write_text("whole")}) == {"n": 5}
    for name, age in (("old", 1), ("new", 1 << 40)):
        (tmp_path / f".draft-{name}").mkdir()
        os.utime(tmp_path / f".draft-{name}", (age, age))
    assert unit_cache.sweep(tmp_path) == []
    assert unit_cache.collect(tmp_path, 60) == [(tmp_path / ".draft-old", 0)]


def test_sweeping_never_takes_what_is_being_made(tmp_path: Path) -> None:
    """Drafts are made and removed as fast as can be, while others sweep: no maker loses one."""
    stop = threading.Event()

    def sweeping() -> None:
        while not stop.is_set():
            unit_cache.sweep(tmp_path)

    threads = [threading.Thread(target=sweeping) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            assert unit_cache.make(tmp_path, f"{number}", lambda folder: {"n": (folder / "a").write_text("whole")})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(list(tmp_path.iterdir())) == 300 and unit_cache.find(tmp_path, "7") == {"n": 5}
