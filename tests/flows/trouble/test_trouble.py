"""Whole flows in trouble: a full or closed disk, others at work in the same home, servers that are gone or slow."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from data_prep.errors import UserError, refusal_of_the_disk
from flows import pretrain
from pipeline import runs
from pipeline.stage import Context
from tests.faults.operations import Fault, Operation, Operations
from tests.flows.end_to_end.test_quickstart import SESAME, sesame
from tests.flows.machine.test_prefect_server import gone
from tests.flows.runner import Runner
from tests.flows.tiny_flow import Proxy
from tests.pipeline import tiny

SHORT = ("--set", "downstream=[]", "--set", "placement.threads=1")

# -- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(server: str, tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    """What a run does to the disk."""
    with pytest.MonkeyPatch.context() as patch:
        runner = Runner(tmp_path_factory.mktemp("undisturbed"), server, patch)
        operations = Operations(runner.home.path)
        with operations.installed():
            runner.run()
    return operations.seen


@pytest.mark.parametrize(
    ("file", "kept"), [("rows", False), ("manifest.json", False), ("weights", True), ("metrics.jsonl", True)]
)
def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(
    runner: Runner, undisturbed: list[Operation], file: str, kept: bool
) -> None:
    """All below the home is refused from the moment that `file` is written first, records and spools, too.

    kept: whether the first stage is done by then.
    """
    at = next(n for n, operation in enumerate(undisturbed, 1) if operation.has_parts and file in operation.name)
    struck: list[Operation] = []
    full = Operations(runner.home.path, Fault(at, errno.ENOSPC, "part", lasting="full"), struck.append)
    with full.installed(), pytest.raises(OSError, match="No space left") as caught:
        runner.run()
    assert file in struck[0].name
    assert "there is no room to write" in str(refusal_of_the_disk(caught.value))
    assert runner.ended == ["Ray", "tracker"] and runner.states() == ["FAILED"]
    record = runner.run()
    assert record.status == runs.DONE and [stage.reused for stage in record.stages.values()] == [kept, False]
    runner.has_nothing_but(artifacts=2)


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A true one, of 300 kB, for the store of a true run."""
    store = tmp_path / "store"
    store.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", store], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        recipe = tiny.recipe(tmp_path)
        full = sesame(tmp_path, "run", str(recipe), *SHORT, check=False, SESAME_STORE=str(store))
        assert full.returncode == 1
        [message] = [line for line in full.stderr.splitlines() if line.startswith("sesame: ")]
        assert "there is no room to write (No space left on device); make some, and `sesame resume last`" in message
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", store], check=True)
        done = sesame(tmp_path, "resume", "last", "--json", SESAME_STORE=str(store))
        stages = json.loads(done.stdout.strip().splitlines()[-1])["stages"]
        assert stages["ingest"]["reused"] and not stages["report"]["reused"]
        for path in store.glob("*-*"):
            assert len(list(path.iterdir())) == 2, "the manifest and the attempt that it names"
    finally:
        subprocess.run(["umount", store], check=True)


def test_a_record_that_cannot_be_saved_hides_nothing(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    save = runs.save

    def full(folder: Path, run: runs.Run) -> None:
        if run.status != runs.RUNNING:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        save(folder, run)

    def break_down(context: Context) -> None:
        raise ValueError("broken") from KeyError("why")

    monkeypatch.setattr(runs, "save", full)
    with pytest.raises(ValueError, match="broken") as caught:
        runner.run(break_down)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(OSError, match="No space left"):  # nothing else is wrong
        runner.run()
    assert runner.ended == ["Ray", "tracker"] * 2
    assert runner.states() == ["FAILED"] * 2


@pytest.mark.parametrize("home", ["file", "file/below"])
def test_a_home_that_is_no_folder_gets_one_sentence(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    failed = sesame(tmp_path, "run", "quickstart", check=False, SESAME_HOME=str(tmp_path / home))
    assert failed.returncode == 1
    assert failed.stderr == (
        f"sesame: {tmp_path / home}/prefect: Not a directory; let this user write there, or set SESAME_HOME to another "
        "folder.\n"
    )


def test_a_home_that_is_read_only_can_be_looked_at(runner: Runner, tmp_path: Path) -> None:
    """By whoever it is: root may write where permissions say no, but not to a file system that is mounted read-only."""
    record = runner.run()
    mounted = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 77; exec "$@"'
    closed = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, str(runner.home.path), *SESAME]
    environment = {**os.environ, "SESAME_HOME": str(runner.home.path)}
    environment.pop("PREFECT_API_URL", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*closed, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True)

    looked = run("runs") if shutil.which("unshare") else None
    if looked is None or (looked.returncode and "sesame" not in looked.stderr):
        pytest.skip("file systems cannot be mounted here")
    assert looked.returncode == 0 and record.run_id in looked.stdout
    assert "all as committed" in run("verify", record.stages["pretrain"].artifact).stdout
    failed = run("run", runner.recipe)
    assert failed.returncode == 1 and failed.stderr.count("sesame: ") == 1 and "Traceback" not in failed.stderr
    assert "Read-only file system; let this user write there, or set SESAME_HOME to another folder.\n" in failed.stderr
    runner.has_nothing_but(artifacts=2)


# -- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)], ids=["of one recipe", "of different ones"])
def test_two_runs_at_once(runner: Runner, seeds: tuple[int, int]) -> None:
    """Both are inside every stage at the same time."""
    both: dict[str, threading.Barrier] = {name: threading.Barrier(2) for name in ("ingest", "pretrain")}

    def meet(context: Context) -> None:
        both[context.key.rpartition("-")[0]].wait(60)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(copy_context().run, runner.run, meet, (f"seed={seed}",)) for seed in seeds]
        records = [future.result() for future in futures]
    different = len(set(seeds))
    assert [record.status for record in records] == [runs.DONE] * 2
    assert len({record.run_id for record in records}) == len(runs.all_runs(runner.home.runs)) == 2
    for name, artifacts in (("ingest", 1), ("pretrain", different)):
        stages = [record.stages[name] for record in records]
        assert len({stage.artifact for stage in stages}) == artifacts
        assert sum(not stage.reused for stage in stages) == artifacts, "who comes second takes what is there"
    assert runner.states() == ["COMPLETED"] * 2
    runner.has_nothing_but(artifacts=1 + different)


@pytest.mark.slow
def test_two_true_runs_of_one_recipe_at_once(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    environment = {**os.environ, "SESAME_HOME": str(tmp_path / "home")}
    both = [
        subprocess.Popen(
            [*SESAME, "run", str(recipe), *SHORT, "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    stages = [json.loads(out)["stages"] for out, _ in outputs]
    for name in stages[0]:
        assert stages[0][name]["path"] == stages[1][name]["path"], "the artifact of the one or of the other"
        attempts = list(Path(stages[0][name]["path"]).parent.iterdir())
        assert len(attempts) == 2, "the manifest and the attempt that it names"
    assert gone(tmp_path / "home" / "prefect")


# -- Prefect ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """Prefect seen through something that can be switched off."""
    proxy = Proxy(urlsplit(server).port or 0)
    yield proxy
    proxy.take_down()


def test_prefect_shows_what_was_made_and_what_was_reused(runner: Runner) -> None:
    runner.run()
    assert runner.stages() == {("ingest", "Made"), ("pretrain", "Made")}
    record = runner.run(settings=("seed=1",))
    assert [stage.reused for stage in record.stages.values()] == [True, False]
    assert ("ingest", "Reused") in runner.stages() and ("pretrain", "Reused") not in runner.stages()


def test_without_prefect_nothing_begins(runner: Runner, proxy: Proxy) -> None:
    proxy.take_down()
    with pytest.raises(UserError, match=r"went away; start it again, or unset PREFECT_API_URL, and run this again\."):
        runner.run(api=f"{proxy.url}/api")
    assert not runner.home.runs.exists()


def test_a_server_that_is_not_prefect_is_one_sentence(runner: Runner, proxy: Proxy) -> None:
    proxy.refuse(404)
    with pytest.raises(UserError, match=r"answered 404; start it again, or unset PREFECT_API_URL"):
        runner.run(api=f"{proxy.url}/api")
    assert not runner.home.runs.exists()


@pytest.mark.parametrize("status", [403, pytest.param(503, marks=pytest.mark.slow)])
def test_a_run_that_prefect_refuses_is_done(
    status: int, runner: Runner, proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "PREFECT_SECONDS", 1.0)

    def refuse(context: Context) -> None:
        if context.key.startswith("ingest"):
            proxy.refuse(status)

    assert runner.run(refuse, api=f"{proxy.url}/api", retries=1).status == runs.DONE
    assert f"answered {status}: the run is done, but Prefect was not told so" in caplog.text
    assert runner.ended == ["Ray", "tracker"]
    runner.has_nothing_but(artifacts=2)


def test_a_run_that_prefect_leaves_is_done(
    runner: Runner, proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, and without the minutes for which Prefect's client tries again."""
    monkeypatch.setattr(pretrain, "PREFECT_SECONDS", 1.0)

    def leave(context: Context) -> None:
        if context.key.startswith("pretrain"):
            proxy.take_down()

    began = time.monotonic()
    assert runner.run(leave, api=f"{proxy.url}/api").status == runs.DONE
    assert time.monotonic() - began < 45
    assert f"Prefect's server at {proxy.url}/api does not answer; trying for 1 s" in caplog.text
    assert "went away: the run is done, but Prefect was not told so" in caplog.text
    assert runner.ended == ["Ray", "tracker"]
    runner.has_nothing_but(artifacts=2)


@pytest.mark.slow
def test_a_run_that_prefect_leaves_fails_for_its_own_reasons(runner: Runner, proxy: Proxy) -> None:
    def leave(context: Context) -> None:
        proxy.take_down()
        raise RuntimeError("broken") from KeyError("why")

    with pytest.raises(RuntimeError, match="broken") as caught:
        runner.run(leave, api=f"{proxy.url}/api", retries=1)
    assert isinstance(caught.value.__cause__, KeyError)
    [record] = runs.all_runs(runner.home.runs)
    assert (record.status, record.error) == (runs.FAILED, "broken")


def test_prefect_may_be_away_for_a_moment(runner: Runner, proxy: Proxy) -> None:
    def leave(context: Context) -> None:
        if context.key.startswith("pretrain"):
            proxy.take_down()
            threading.Timer(0.5, proxy.bring_up).start()

    assert runner.run(leave, api=f"{proxy.url}/api").status == runs.DONE
    assert runner.states() == ["COMPLETED"]
