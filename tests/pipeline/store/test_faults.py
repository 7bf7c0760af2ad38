"""Kill the store at every step of what it does: an artifact is whole or absent, and a rerun succeeds.

A step is a call that changes the file system or makes a change last. Before and after each of them the process is
killed (a forked child that exits at once, as by `kill -9`), or the call fails (a full disk) and cleaning up proceeds.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from data_prep.errors import UserError
from pipeline.stage import Stage
from pipeline.store import live
from pipeline.store.store import MANIFEST, Store

STEPS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")
KILLED, PASSED = 77, 78


def write(config, inputs, out, context):
    (out / "folder").mkdir()
    (out / "folder" / "file").write_text("content")
    (out / "other").write_text("content too")
    with (context.work / "log").open("a") as log:
        log.write("line\n")
    return {"lines": (context.work / "log").read_text().count("\n")}


STAGE = Stage("write", 1, write)
KEY = STAGE.key({}, {})


class Fault:
    """Calls `strike` before (or after) the `at`-th step, and counts the steps."""

    def __init__(self, at: int, after: bool, strike: Callable[[], None]) -> None:
        self.at, self.after, self.strike, self.steps = at, after, strike, 0

    def wrap(self, call):
        def step(*args, **kwargs):
            self.steps += 1
            mine = self.steps == self.at
            if mine and not self.after:
                self.strike()
            result = call(*args, **kwargs)
            if mine and self.after:
                self.strike()
            return result

        return step

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in STEPS:
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        patch.setattr(io, "open", self._only_writing(io.open))

    def _only_writing(self, call):
        step = self.wrap(call)

        def choose(file, mode="r", *args, **kwargs):
            return (call if set(mode) <= set("rbt") else step)(file, mode, *args, **kwargs)

        return choose


def no_space() -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_whole_or_absent(store: Store) -> bool:
    """Whether the artifact is there; fails if it is there and not whole."""
    artifact = store.get(KEY)
    if artifact is None:
        return False
    assert store.verify(artifact) == []
    assert (artifact.path / "folder" / "file").read_text() == "content"
    return True


def check_rerun(store: Store, was_there: bool) -> None:
    artifact, reused = store.produce(STAGE, {})
    assert reused == was_there
    assert store.verify(artifact) == []
    store.gc(older_than=-1)
    assert sorted(store._files.names(KEY)) == sorted([MANIFEST, artifact.manifest["attempt"]])
    assert store.verify(artifact) == []
    locks = [path for path in (store.home / ".work").iterdir() if path.name.endswith(live.LOCK_SUFFIX)]
    assert locks == []


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr("pipeline.store.gc.GRACE_SECONDS", -1.0)  # so that gc takes the leftovers of a crash at once
    monkeypatch.setattr("pipeline.store.store.provenance", dict)  # which starts git: no step of the store's


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_step_of_making(tmp_path, after):
    live.machine()  # cached, so that steps are the same in every child
    outcomes = []
    for at in range(1, 1000):
        root = tmp_path / str(at)

        def make(at=at, root=root):
            fault = Fault(at, after, lambda: os._exit(KILLED))
            with pytest.MonkeyPatch.context() as patch:
                fault.install(patch)
                Store(root).produce(STAGE, {})
            if fault.steps >= at:  # the step itself raised, as is allowed, so there was nothing after it
                os._exit(PASSED)

        status = in_child(make)
        if status == 0:
            break
        assert status in (KILLED, PASSED)
        is_whole = check_whole_or_absent(Store(root))
        check_rerun(Store(root), is_whole)
        if status == KILLED:
            outcomes.append(is_whole)
    assert len(outcomes) > 15, "the steps were not reached"
    assert outcomes == sorted(outcomes), "once committed, it stays"
    assert set(outcomes) == {False, True}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failure_at_every_step_of_making(tmp_path, after):
    outcomes = []
    for at in range(1, 1000):
        store = Store(tmp_path / str(at))
        fault = Fault(at, after, no_space)
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            try:
                store.produce(STAGE, {})
                failed = False
            except (OSError, UserError):  # the latter where the very first write fails
                failed = True
        if fault.steps < at:
            assert not failed
            break
        outcomes.append(check_whole_or_absent(store))
        assert failed or outcomes[-1]
        if not outcomes[-1]:
            left = [path for path in (store.home / KEY).glob("2*") if path.is_dir()]
            assert left == [], "a stage that fails leaves nothing half-made"
        for sign in (store.home / KEY).glob("*.live"):  # this process lives, and gc believes it
            sign.unlink()
        check_rerun(store, outcomes[-1])
    assert len(outcomes) > 15
    assert set(outcomes) == {False, True}


def test_killed_at_every_step_of_deleting(tmp_path):
    outcomes = []
    for at in range(1, 1000):
        store = Store(tmp_path / str(at))
        store.produce(STAGE, {})

        def delete(at=at, store=store):
            with pytest.MonkeyPatch.context() as patch:
                Fault(at, False, lambda: os._exit(KILLED)).install(patch)
                store.delete(KEY)

        status = in_child(delete)
        if status == 0:
            assert store.get(KEY) is None
            break
        assert status == KILLED
        outcomes.append(check_whole_or_absent(store))
        check_rerun(store, outcomes[-1])
    assert len(outcomes) > 3
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {False, True}


class FaultyFileSystem:
    """A pyarrow file system with a fault; `kind` is what it calls itself."""

    def __init__(self, system: fs.FileSystem, fault: Fault, kind: str) -> None:
        self._system, self._fault, self.type_name = system, fault, kind

    def __getattr__(self, name):
        call = getattr(self._system, name)
        if name == "open_output_stream" and self.type_name == "s3":

            def call(path):
                self._system.create_dir(path.rpartition("/")[0], recursive=True)
                return self._system.open_output_stream(path)

        changes = name in ("create_dir", "move", "open_output_stream", "delete_file", "delete_dir")
        return self._fault.wrap(call) if changes else call


@pytest.mark.parametrize("kind", ["hdfs", "s3"])
@pytest.mark.parametrize("killed", [False, True], ids=["fails", "killed"])
def test_a_remote_store_is_interrupted_at_every_step(tmp_path, kind, killed, monkeypatch):
    remote = tmp_path / "remote"
    outcomes = []
    for at in range(1, 1000):
        root = remote / str(at)
        root.mkdir(parents=True)
        system = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        fault = Fault(at, False, (lambda: os._exit(KILLED)) if killed else no_space)

        def make(system=system, fault=fault, root=root):
            faulty: fs.FileSystem = FaultyFileSystem(system, fault, kind)  # type: ignore[assignment]
            Store(faulty, cache=tmp_path / "cache" / root.name).produce(STAGE, {})

        if killed:
            status = in_child(make)
            assert status in (0, KILLED)
            finished = status == 0
        else:
            try:
                make()
                finished = fault.steps < at
            except (OSError, UserError):
                finished = False
        if finished:
            break
        other_machine = Store(system, cache=tmp_path / "elsewhere" / root.name)
        outcomes.append(check_whole_or_absent(other_machine))
        for sign in root.rglob("*.live"):
            sign.unlink()
        check_rerun(Store(system, cache=tmp_path / "cache" / root.name), outcomes[-1])
    assert len(outcomes) >= 5
    assert set(outcomes) == {False, True}


def test_everything_is_on_the_disk_before_the_manifest_appears(tmp_path, monkeypatch):
    """A power cut keeps only what was synced, which killing a process cannot show."""
    events: list[str] = []
    sync, link = os.fsync, os.link

    def note_sync(descriptor):
        events.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def note_link(source, target, **kwargs):
        events.append("commit" if Path(target).name == MANIFEST else "link")
        link(source, target, **kwargs)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", note_link)
    artifact, _ = Store(tmp_path).produce(STAGE, {})
    before = set(events[: events.index("commit")])
    paths = {artifact.path, *artifact.path.rglob("*"), artifact.path.parent, tmp_path}
    assert {str(path) for path in paths} <= before
    assert any(Path(path).name.startswith(f".{MANIFEST}") for path in before)
    assert str(artifact.path.parent) in events[events.index("commit") :]


def test_a_full_disk_leaves_no_temporary_file(tmp_path, monkeypatch):
    files = Store(tmp_path)._files

    def full(descriptor):
        no_space()

    monkeypatch.setattr(os, "fsync", full)
    for write_small in (files.put, files.put_new):
        with pytest.raises(OSError, match="no space"):
            write_small(KEY, MANIFEST, b"{}")
    assert list((tmp_path / KEY).iterdir()) == []


class FullStream:
    """A stream that takes its first bytes and then no more; closing it commits what it has, as pyarrow's do."""

    def __init__(self, stream) -> None:
        self._stream = stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def write(self, data):
        self._stream.write(data[:3])
        no_space()


def test_a_half_written_remote_file_is_removed(tmp_path, monkeypatch):
    store = Store(fs._MockFileSystem(), cache=tmp_path)
    system, opened = vars(store._files)["_system"], []

    class Full:
        type_name = "s3"

        def __getattr__(self, name):
            return getattr(system, name)

        def open_output_stream(self, path):
            opened.append(path)
            system.create_dir(path.rpartition("/")[0], recursive=True)
            return FullStream(system.open_output_stream(path))

    full: fs.FileSystem = Full()  # type: ignore[assignment]
    files = Store(full, cache=tmp_path)._files
    with pytest.raises(OSError, match="no space"):
        files.put(KEY, MANIFEST, b'{"whole": true}')
    assert opened == [f"{KEY}/{MANIFEST}"]
    assert files.read(KEY, MANIFEST) is None


def test_of_two_remote_makers_at_once_the_one_that_is_overwritten_knows(tmp_path):
    files = Store(fs._MockFileSystem(), cache=tmp_path)._files
    put = files.put

    def put_and_be_overwritten(key, name, data):
        put(key, name, data)
        put(key, name, b"the other's")

    files.put = put_and_be_overwritten  # type: ignore[method-assign]
    assert not files.put_new(KEY, MANIFEST, b"ours")
    files.put = put  # type: ignore[method-assign]
    files.drop(KEY, MANIFEST)
    assert files.put_new(KEY, MANIFEST, b"ours")


def test_without_hard_links_a_manifest_is_still_committed_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, "operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    artifact, _ = store.produce(STAGE, {})
    assert store.verify(artifact) == []
    assert not store._files.put_new(KEY, MANIFEST, b"another")
    stored = store.get(KEY)
    assert stored is not None and stored.manifest == artifact.manifest
    assert not list(Path(tmp_path / KEY).glob(".*"))
