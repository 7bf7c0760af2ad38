"""Full disks, limits, processes that are killed: nothing is half-made, and a rerun mends the rest."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corpus import unit_cache
from data_prep.errors import UserError
from data_prep.text.ingest import units as ingest_unit
from tests.data_prep.bad_input.checks import line, run, units_of
from tests.data_prep.test_ingest import contents, prose


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("where", ["rows", "close", "index", "rename", "folder", "corpus"])
def test_a_disk_that_fails_leaves_nothing_half_made(tmp_path: Path, many: Path, where: str, number: int) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    left = 4  # writes that go well

    def failing(real: Callable[..., Any], suffix: str = "") -> Callable[..., Any]:
        def write(*settings: Any, **more: Any) -> Any:
            nonlocal left
            if not suffix or suffix in str(settings[0]):
                left -= 1
                if left < 0:
                    raise OSError(number, os.strerror(number))
            return real(*settings, **more)

        return write

    with pytest.MonkeyPatch.context() as patch:
        if where == "rows":
            patch.setattr(ingest_unit.Writer, "_flush", failing(ingest_unit.Writer._flush))
        elif where == "close":
            patch.setattr(ingest_unit.Writer, "__exit__", failing(ingest_unit.Writer.__exit__))
        elif where == "index":
            patch.setattr(Path, "write_bytes", failing(Path.write_bytes, ".draft-"))
        elif where == "rename":
            patch.setattr(unit_cache, "digest", failing(unit_cache.digest))
        elif where == "folder":
            patch.setattr(unit_cache.tempfile, "mkdtemp", failing(unit_cache.tempfile.mkdtemp))
        else:
            patch.setattr(Path, "mkdir", failing(Path.mkdir, "/out"))
            left = 1
        with pytest.raises((OSError, UserError), match=os.strerror(number)):
            run(many, out=tmp_path / "out", **places)
    assert not list(units_of(tmp_path / "downloads").glob(".*")) and not (tmp_path / "out" / "corpus.json").exists()
    assert not list((tmp_path / "out").glob(".*"))
    shutil.rmtree(tmp_path / "out")
    run(many, out=tmp_path / "out", **places)
    run(many, out=tmp_path / "fresh", split=0.2)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_files_that_may_not_grow_fail_clearly(tmp_path: Path, many: Path) -> None:
    """The real thing: the system refuses to write more than some bytes to any file."""
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 500, 1500):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises((OSError, UserError), match="File too large"):
                run(many, out=tmp_path / "out", **places)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(units_of(tmp_path / "downloads").glob(".*"))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    run(many, out=tmp_path / "out", **places)
    run(many, out=tmp_path / "fresh", split=0.2)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_unit_that_cannot_get_its_name_is_told(tmp_path: Path, many: Path) -> None:
    def fails(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises((OSError, UserError), match="Input/output error"):
            run(many, out=tmp_path / "out")


# -- processes --------------------------------------------------------------------------------------------------------


MARK = "SESAME_TEST_MARK"
RUN = """
import sys
from pathlib import Path

if __name__ == "__main__":
    from data_prep import ingest as module
    from data_prep.text.ingest import plan
    from data_prep.compute.workers import Workers
    from tests.data_prep.bad_input.checks import run

    plan.UNIT_BYTES, module.SERIAL_BYTES = int(sys.argv[5]), 0
    source, out, downloads = map(Path, sys.argv[1:4])
    run(source, out=out, downloads=downloads, split=0.1, workers=Workers(int(sys.argv[4])))
"""


def start(folder: Path, source: Path, out: str, downloads: str, workers: int, unit: int) -> subprocess.Popen[bytes]:
    script = folder / "run.py"
    script.write_text(RUN)
    settings = [str(source), str(folder / out), str(folder / downloads), str(workers), str(unit)]
    root = str(Path(__file__).parents[2])
    env = os.environ | {MARK: str(folder), "PYTHONPATH": root}
    return subprocess.Popen([sys.executable, str(script), *settings], env=env)


def left_over(mark: str) -> list[int]:
    """Processes that were started with this mark."""
    processes = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with suppress(OSError):  # it ended
                if f"{MARK}={mark}\0".encode() in (place / "environ").read_bytes() + b"\0":
                    processes.append(int(place.name))
    return processes


def end(folder: Path, seconds: float = 10) -> int:
    """Wait for processes that were started for a folder to end, and end those that do not; how many those are."""
    until = time.monotonic() + seconds
    while left_over(str(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    lost = left_over(str(folder))
    for process in lost:
        os.kill(process, signal.SIGKILL)
    return len(lost)


def test_two_at_once_make_the_same(tmp_path: Path, many: Path) -> None:
    both = [start(tmp_path, many, out, "downloads", 1, 3000) for out in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    run(many, out=tmp_path / "fresh", split=0.1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "fresh")
    assert not list(units_of(tmp_path / "downloads").glob(".*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(8):
        (source / f"{number}.jsonl").write_text("".join(line(prose(number * 1000 + i)) for i in range(900)))
    began = time.monotonic()
    assert start(tmp_path, source, "whole", "whole-downloads", 2, 1 << 17).wait(120) == 0
    seconds, draw = time.monotonic() - began, random.Random(0)
    for kills in range(1, 21):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        process = start(tmp_path, source, "out", "downloads", 2, 1 << 17)
        time.sleep(draw.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.wait(30)
        end(tmp_path)
        assert len(list(units_of(tmp_path / "downloads").glob(".draft-*"))) <= 2 * kills, "one for each worker"
        if draw.random() < 0.3:
            for unit in units_of(tmp_path / "downloads").glob("[0-9a-f]*"):
                shutil.rmtree(unit)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert start(tmp_path, source, "out", "downloads", 2, 1 << 17).wait(120) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_is_killed_at_once(tmp_path: Path, many: Path) -> None:
    lost = 0
    for wait in np.linspace(0, 0.3, 10):
        process = start(tmp_path, many, "out", "downloads", 2, 3000)
        while len(left_over(str(tmp_path))) < 3 and process.poll() is None:
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
        process.wait(30)
        lost += end(tmp_path, 5)
    assert lost == 0
