"""What attempts leave behind, and what deletes it."""

from __future__ import annotations

import json
import os
import subprocess
import threading

import psutil
from pyarrow import fs

from pipeline.store import live as store_live
from pipeline.store.store import MANIFEST, Store
from tests.pipeline.store.stores import KEY, WRITE


def die(monkeypatch):
    """Attempts begun from now on look as if their process had died at once."""
    monkeypatch.setattr(
        store_live, "sign_of_life", lambda: b'{"machine": "%s", "pid": 1, "started": 0, "time": 0}' % machine
    )


machine = store_live.machine().encode()


def test_gc_takes_dead_attempts_and_old_work_and_nothing_live(store, monkeypatch):
    kept, _ = store.produce(WRITE, {"text": "kept"})
    with store.attempt(KEY) as live:
        (live.path / "file").write_text("live")
        live_names = store._files.names(KEY)
        crash(store, monkeypatch, "other-" + "0" * 16)
        work = store.work("other-" + "0" * 16)
        work.mkdir(parents=True)
        (work / "checkpoint").write_text("123456")
        assert store.gc(older_than=3600) == [], "all of it is recent"
        planned = store.gc(older_than=-1, dry_run=True)
        assert sorted((garbage.reason, garbage.size) for garbage in planned) == [
            ("never committed", 4),
            ("work of earlier attempts", 6),
        ]
        assert work.exists()
        assert store.gc(older_than=-1) == planned
        assert not work.exists()
        assert store._files.names(KEY) == live_names
        assert (live.path / "file").read_text() == "live"
    assert store.gc(older_than=-1) == []
    assert store._files.folders() == [kept.key] or set(store._files.folders()) - {".work", ".downloads"} == {kept.key}
    assert store.verify(kept) == []


def crash(store, monkeypatch, key):
    """Leave an attempt as a killed process would."""
    with monkeypatch.context() as patch:
        die(patch)
        patch.setattr(store._files, "discard", lambda *_: None)
        patch.setattr(store._files, "drop", lambda *_: None)
        with store.attempt(key) as attempt:
            (attempt.path / "file").write_text("dead")
    return attempt


def test_gc_leaves_work_that_is_locked(store):
    """However old it is: training may write nothing for hours."""
    work = store.work(KEY)
    work.mkdir(parents=True)
    (work / "checkpoint").write_text("123456")
    with store_live.locked(work) as held:
        assert held
        assert store.gc(older_than=-1) == [] and store.gc(older_than=-1, dry_run=True) == []
        assert (work / "checkpoint").exists()
    assert [garbage.reason for garbage in store.gc(older_than=-1)] == ["work of earlier attempts"]
    assert not work.exists()


def test_gc_takes_losing_attempts_but_leaves_the_winner_with_a_stale_sign(store, monkeypatch):
    artifact, _ = store.produce(WRITE, {"text": "a"})
    crash(store, monkeypatch, artifact.key)
    winner = artifact.manifest["attempt"]
    store._files.put(artifact.key, winner + store_live.LIVE_SUFFIX, b"{}")
    (garbage,) = store.gc(older_than=-1)
    assert (garbage.reason, garbage.size) == ("another attempt was committed", 4)
    assert sorted(store._files.names(artifact.key)) == sorted([MANIFEST, winner])
    assert store.verify(artifact) == []


def test_delete_leaves_a_live_attempt_to_finish(store):
    artifact, _ = store.produce(WRITE, {"text": "a"})
    with store.attempt(artifact.key) as attempt:
        (attempt.path / "file").write_text("new")
        store.delete(artifact.key)
        assert store.get(artifact.key) is None
        again, won = store.commit(attempt, WRITE, {"text": "a"}, {}, {})
    assert won
    assert (again.path / "file").read_text() == "new"
    assert store.verify(again) == []


def test_delete_takes_nothing_of_others(store, monkeypatch):
    """Not even what gc would take: a run that failed an hour ago is to go on from its checkpoints."""
    artifact, _ = store.produce(WRITE, {"text": "a"})
    other = "other-" + "0" * 16
    dead = crash(store, monkeypatch, other)
    for key in (artifact.key, other):
        store.work(key).mkdir(parents=True)
        (store.work(key) / "checkpoint").write_text("123456")
    store.delete(artifact.key)
    assert store.get(artifact.key) is None and not store.work(artifact.key).exists()
    assert (store.work(other) / "checkpoint").read_text() == "123456"
    assert dead.name + store_live.LIVE_SUFFIX in store._files.names(other)


def test_life_elsewhere_is_believed_for_a_while():
    import time

    def sign(**changes):
        return json.dumps({**json.loads(store_live.sign_of_life()), **changes}).encode()

    assert store_live.is_live(store_live.sign_of_life())
    assert not store_live.is_live(sign(pid=2**22 + 1)), "no such process"
    assert not store_live.is_live(sign(started=0)), "the number of another process"
    assert store_live.is_live(sign(machine="elsewhere", pid=2**22 + 1, time=time.time() - 60))
    assert not store_live.is_live(sign(machine="elsewhere", time=time.time() - 3600))
    for nonsense in (None, b"", b"{}", b"[]", b"\xff", b'{"machine": 1, "pid": "x"}'):
        assert not store_live.is_live(nonsense)


def test_a_process_that_ended_is_dead_before_its_parent_asks():
    """Until then it is a zombie, which still has its number and the time it began."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        started = psutil.Process(child.pid).create_time()
        record = {**json.loads(store_live.sign_of_life()), "pid": child.pid, "started": started}
        assert store_live.is_live(json.dumps(record).encode())
        assert not store_live.is_live(json.dumps({**record, "started": started - 60}).encode()), "another one"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not store_live.is_live(json.dumps(record).encode())
    finally:
        child.wait()


def test_a_sign_of_life_is_renewed(monkeypatch):
    monkeypatch.setattr(store_live, "BEAT_SECONDS", 0.01)
    beats, enough, dropped = [], threading.Event(), []

    def renew(data):
        beats.append(json.loads(data)["time"])
        if len(beats) == 2:
            raise OSError("a hiccup")
        if len(beats) > 4:
            enough.set()

    with store_live.heartbeat(renew, lambda: dropped.append(len(beats))):
        assert enough.wait(5)
    count = len(beats)
    assert beats == sorted(beats)
    assert dropped == [count], "dropped once, after the last beat"


def test_leftovers_of_a_crash_go_when_they_are_old(tmp_path):
    store = Store(tmp_path)
    artifact, _ = store.produce(WRITE, {"text": "a"})
    leftover = tmp_path / artifact.key / ".manifest.json.01234567.tmp"
    leftover.write_text("half")
    assert store.gc(older_than=-1) == [], "it may be in use this very moment"
    os.utime(leftover, (0, 0))
    assert [garbage.reason for garbage in store.gc()] == ["left by a crash"]
    assert not leftover.exists()


def test_a_copy_that_was_never_finished_goes_when_it_is_old(tmp_path):
    store = Store(fs._MockFileSystem(), cache=tmp_path)
    artifact, _ = store.produce(WRITE, {"text": "a"})
    partial = tmp_path / ".copies" / artifact.key / f".{artifact.manifest['attempt']}.01234567.tmp"
    partial.mkdir()
    (partial / "half").write_text("123")
    assert store.gc(older_than=-1) == []
    for path in (partial / "half", partial):
        os.utime(path, (0, 0))
    assert [(garbage.reason, garbage.size) for garbage in store.gc()] == [("left by a crash", 3)]
    assert not partial.exists()
