"""Several attempts at one artifact, in one process or in many."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading

from pipeline.stage import Stage
from pipeline.store import live as store_live
from pipeline.store.store import MANIFEST, Store


def test_the_first_to_commit_wins_and_the_other_leaves_nothing(store):
    inner = []

    def race(config, inputs, out, context):
        (out / "file").write_text("inner" if inner else "outer")
        if not inner:
            inner.append(None)
            inner[0] = (store.produce(stage, config), context.work)
        else:
            assert context.work != store.work(context.key), "two attempts never share a work folder"
            (context.work / "x").touch()
        return {}

    stage = Stage("race", 1, race)
    outer, reused = store.produce(stage, {})
    (winner, inner_reused), work = inner[0]
    assert (reused, inner_reused) == (True, False)
    assert work == store.work(outer.key)
    assert outer.manifest == winner.manifest
    assert (outer.path / "file").read_text() == "inner"
    assert sorted(store._files.names(outer.key)) == sorted([MANIFEST, winner.manifest["attempt"]])
    assert not (store.home / ".work").exists() or not list((store.home / ".work").iterdir())


RACER = """
import os, sys, time
from pathlib import Path
from pipeline.stage import Stage
from pipeline.store.store import Store

def run(config, inputs, out, context):
    for name in range(20):
        (out / str(name)).write_text(str(os.getpid()))
    return {}

while time.time() < float(sys.argv[2]):
    pass
artifact, reused = Store(sys.argv[1]).produce(Stage("race", 1, run), {})
print(artifact.manifest["attempt"], artifact.output_digest, reused)
"""


def test_racing_processes_end_with_one_valid_artifact(tmp_path):
    import time

    start = str(time.time() + 1.0)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), start],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = []
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err
        outputs.append(out.split())
    assert len({(attempt, digest) for attempt, digest, _ in outputs}) == 1
    assert sorted(reused for *_, reused in outputs) == ["False", "True", "True", "True"]
    store = Store(tmp_path)
    (artifact,) = store.list()
    assert store.verify(artifact) == []
    assert len({path.read_text() for path in artifact.path.iterdir()}) == 1
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == sorted(
        [MANIFEST, artifact.manifest["attempt"]]
    )


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most, done = [], [], threading.Event()

    def take():
        while not done.is_set():
            with store_live.locked(tmp_path / "folder") as held:
                if held:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.wait(0.5)
    done.set()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_of_the_file_that_is_there(tmp_path, monkeypatch):
    """Opened before its last holder removed it, a lock file is held by nobody and guards nothing."""
    first = store_live.locked(tmp_path / "folder")
    assert first.__enter__()
    flock, stolen = fcntl.flock, []

    def end_the_first(file, how):
        if not stolen:
            stolen.append(first.__exit__(None, None, None))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", end_the_first)
    with store_live.locked(tmp_path / "folder") as second:
        assert second
        with store_live.locked(tmp_path / "folder") as third:
            assert not third
    assert list(tmp_path.iterdir()) == []
