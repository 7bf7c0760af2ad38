"""Everything reported is found in MLflow, once, whatever happened to the server or to the process in between."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tracking, tracking_sender
from pipeline.tracking import TrackedRun, Tracker, flatten, follow, metric_name, recover, send_pending
from pipeline.tracking_mlflow import Server, default_uri
from pipeline.tracking_spool import Progress, Spool, spools

ROOT = Path(__file__).parents[2]
DEAD = "http://127.0.0.1:1"
OPERATIONS = 14  # of `report`

ONE_FLOW = """
import sys
from pathlib import Path
from pipeline.tracking import Tracker

tracker = Tracker(Path(sys.argv[1]), None, "at once", sys.argv[2])
with tracker.run("flow") as run:
    run.metrics({"loss": 1.0}, step=1)
unsent = tracker.close(timeout=120)
assert "mlflow" in sys.modules
sys.exit(unsent)
"""

KILLED_FLOW = """
import sys, time
from pathlib import Path
from pipeline.tracking import Tracker

tracker = Tracker(Path(sys.argv[1]), "http://127.0.0.1:1", "killed", "killed-flow")
flow = tracker.run("flow")
tracker.run("done", flow).end()
tracker.run("pretrain", flow).metrics({"loss": 3.0}, step=7)
print("ready", flush=True)
time.sleep(600)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def begun_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str]]]:
    """A fresh home (a space in its name) on which three processes track at once; how these ended, what they said."""
    home = tmp_path_factory.mktemp("a home")
    processes = [start(ONE_FLOW, str(home), f"flow-{number}") for number in range(3)]
    said = ["".join(process.communicate()) for process in processes]
    return home, [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def uri(begun_at_once: tuple[Path, list[tuple[int, str]]]) -> str:
    """One SQLite file for the whole module."""
    return default_uri(begun_at_once[0])


@pytest.fixture(scope="module")
def client(uri: str) -> Any:
    return Server(Path(uri.removeprefix("sqlite:///")).parents[1], uri).client


class Unsteady(Server):
    """A server that can be switched off, for all connections at once."""

    down = False

    @property
    def client(self) -> Any:
        if Unsteady.down:
            raise ConnectionError("nobody there")
        return super().client


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Unsteady]]:
    monkeypatch.setattr(tracking, "Server", Unsteady)
    monkeypatch.setattr(tracking_sender, "Server", Unsteady)
    monkeypatch.setattr(tracking_sender, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(tracking_sender, "LINGER_SECONDS", 0.0)
    Unsteady.down = False
    yield Unsteady
    Unsteady.down = False


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow leaves nothing in the current folder, and its idea of the active run and server is not used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")


def runs_of(client: Any, experiment: str) -> dict[str, Any]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}
    runs = client.search_runs([found.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs), "a run is there twice"
    return by_name


def history(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def files(client: Any, run: Any, folder: str = "") -> list[str]:
    return sorted(entry.path for entry in client.list_artifacts(run.info.run_id, folder))


def sent(tracker: Tracker, seconds: float = 30.0) -> None:
    """Wait until the server has all that was reported so far."""
    limit = time.monotonic() + seconds
    while tracker._spool.unsent():
        assert time.monotonic() < limit, "not sent in time"
        time.sleep(0.01)


def report(tracker: Tracker, figure: Path) -> tuple[TrackedRun, TrackedRun]:
    """A small flow that says a bit of everything, up to its end."""
    flow = tracker.run("flow", tags={"recipe": "bert", "placement": {"workers": 2}}, params={"seed": 1})
    stage = tracker.run("pretrain", flow, tags={"stage": "pretrain"}, params={"train": {"lr": 0.001}})
    stage.dataset("shards", "d" * 32, "/data/shards", "training", {"rows": 10})
    for step in range(5):
        stage.metrics({"loss": 5.0 - step, "held-out/loss": 5.5 - step}, step, time=1_700_000_000 + step)
    stage.artifact(figure, "figures")
    stage.text("# Report", "report.md")
    stage.end()
    flow.end("FAILED")
    return flow, stage


def check(client: Any, experiment: str, tracker_id: str) -> None:
    """What `report` said is there, once."""
    runs = runs_of(client, experiment)
    assert set(runs) == {"flow", "pretrain"}
    flow, stage = runs["flow"], runs["pretrain"]
    assert flow.data.tags["sesame.id"] == tracker_id
    assert (flow.data.tags["recipe"], json.loads(flow.data.tags["placement"])) == ("bert", {"workers": 2})
    assert stage.data.tags["mlflow.parentRunId"] == flow.info.run_id
    assert "mlflow.parentRunId" not in flow.data.tags
    assert (flow.data.params, stage.data.params) == ({"seed": "1"}, {"train.lr": "0.001"})
    assert (flow.info.status, stage.info.status) == ("FAILED", "FINISHED")
    assert history(client, stage, "loss") == [(step, 5.0 - step) for step in range(5)]
    assert history(client, stage, "held-out/loss") == [(step, 5.5 - step) for step in range(5)]
    stamps = [metric.timestamp for metric in client.get_metric_history(stage.info.run_id, "loss")]
    assert stamps == [1000 * (1_700_000_000 + step) for step in range(5)]
    assert files(client, stage) == ["figures", "report.md"]
    assert files(client, stage, "figures") == ["figures/loss.png"]
    (data,) = stage.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("shards", "d" * 32)
    assert json.loads(data.dataset.profile) == {"rows": 10}
    assert json.loads(data.dataset.source) == {"uri": "/data/shards"}
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    path = tmp_path / "plots" / "loss.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG")
    return path


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_importing_costs_no_mlflow() -> None:
    code = "import sys, pipeline.tracking, pipeline.registry; sys.exit('mlflow' in sys.modules)"
    assert start(code).wait() == 0


def test_processes_may_begin_on_a_fresh_home_at_once(
    begun_at_once: tuple[Path, list[tuple[int, str]]], client: Any
) -> None:
    home, ends = begun_at_once
    assert ends == [(0, "")] * 3, "all was sent, and MLflow said nothing"
    experiment = client.get_experiment_by_name("at once")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["sesame.id"] for run in runs) == ["flow-0", "flow-1", "flow-2"]
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert experiment.artifact_location == (home / "mlflow" / "artifacts" / "at-once").as_uri()


def test_all_that_is_reported_arrives(tmp_path: Path, uri: str, client: Any, figure: Path) -> None:
    import mlflow

    tracker = Tracker(tmp_path, uri, "everything", "flow-1")
    before = {path.name for path in Path.cwd().iterdir()}
    _, stage = report(tracker, figure)
    assert tracker.close() == 0
    check(client, "everything", "flow-1")
    assert tracker.url(stage) == "sesame ui"
    assert mlflow.active_run() is None
    assert {path.name for path in Path.cwd().iterdir()} - before <= {"tracking", "mlflow"}
    for name in ("mlruns", "mlflow.db"):
        assert not Path(name).exists()


def test_values_that_mlflow_would_not_keep(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "odd values", "odd")
    run = tracker.run("odd", params={"long": "x" * 6001, "fits": "y" * 6000, "a": {"b": [1, None], "c": {}}, "d": ""})
    run.metrics({"loss": math.nan, "peak": math.inf, "f32": np.float32(0.5), "n": np.int64(3), "phase": "warm"}, 1)
    run.metrics({"loss": -math.inf, "on": True, "huge": 10**400, "weird (name)/../é%": 2}, 2)
    run.tags({"long": "z" * 9000})
    run.end()
    assert tracker.close() == 0
    (found,) = runs_of(client, "odd values").values()
    assert found.data.metrics == {"f32": 0.5, "n": 3.0, "weird _name_/é_": 2.0}
    assert (found.data.tags["sesame.nonfinite"], found.data.tags["sesame.nonnumeric"]) == ("4", "2")
    assert len(found.data.tags["long"]) == tracking.LONGEST_TAG
    note = "(6001 characters, in params-long.json)"
    assert found.data.params == {"long": note, "fits": "y" * 6000, "a.b": "[1, null]", "a.c": "{}", "d": ""}
    stored = client.download_artifacts(found.info.run_id, "params-long.json", str(tmp_path))
    assert json.loads(Path(stored).read_text()) == {"long": "x" * 6001}


def test_many_params_and_metrics(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "many", "many")
    run = tracker.run("many", params={f"p{number}": number for number in range(250)})
    run.metrics({f"m{number}": number for number in range(1500)}, 0)
    for step in range(300):
        run.metrics({f"k{number}": step for number in range(7)}, step)
    run.end()
    assert tracker.close() == 0
    (found,) = runs_of(client, "many").values()
    assert (len(found.data.params), len(found.data.metrics)) == (250, 1507)
    assert history(client, found, "k6") == [(step, float(step)) for step in range(300)]


def test_a_context_ends_its_run(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "contexts", "contexts")
    with tracker.run("fine"):
        pass
    with pytest.raises(ZeroDivisionError), tracker.run("broken"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), tracker.run("stopped"):
        raise KeyboardInterrupt
    run = tracker.run("twice")
    run.end("FAILED")
    run.end("FINISHED")
    with pytest.raises(ValueError, match="none of FINISHED, FAILED, KILLED"):
        run.end("DONE")
    assert tracker.close() == 0
    status = {name: run.info.status for name, run in runs_of(client, "contexts").items()}
    assert status == {"fine": "FINISHED", "broken": "FAILED", "stopped": "KILLED", "twice": "FAILED"}


def test_a_flow_that_is_run_again_goes_on_with_its_parent(tmp_path: Path, uri: str, client: Any) -> None:
    for attempt in range(2):
        tracker = Tracker(tmp_path, uri, "again", "the-flow")
        flow = tracker.run("flow", params={"seed": 1})
        tracker.run(f"stage {attempt}", flow).end()
        flow.end("FAILED" if attempt == 0 else "FINISHED")
        assert tracker.close() == 0
    runs = runs_of(client, "again")
    assert set(runs) == {"flow", "stage 0", "stage 1"}
    assert runs["flow"].info.status == "FINISHED"
    assert {runs[f"stage {n}"].data.tags["mlflow.parentRunId"] for n in range(2)} == {runs["flow"].info.run_id}


def test_a_disabled_tracker_does_nothing(tmp_path: Path, figure: Path) -> None:
    tracker = Tracker(tmp_path / "home", None, "off", "off", enabled=False)
    _, stage = report(tracker, figure)
    assert tracker.close() == 0
    assert tracker.url(stage) is None
    assert not (tmp_path / "home").exists()


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    for name in ("../up", "", "a b", ".hidden", "x" * 201):
        with pytest.raises(ValueError, match="cannot name a flow run"):
            Tracker(tmp_path, DEAD, "names", name)


# -- when the server is not there -------------------------------------------------------------------------------------


def test_a_dead_server_costs_no_time_and_loses_nothing(tmp_path: Path, uri: str, client: Any, figure: Path) -> None:
    started = time.perf_counter()
    tracker = Tracker(tmp_path, DEAD, "dead", "dead-flow")
    report(tracker, figure)
    assert time.perf_counter() - started < 1.0
    assert tracker.close(timeout=30) == OPERATIONS
    assert time.perf_counter() - started < 10.0, "nobody is there: it should not try for long"
    assert send_pending(tmp_path, DEAD) == OPERATIONS
    assert send_pending(tmp_path, uri) == 0
    check(client, "dead", "dead-flow")


def test_dead_at_the_start(tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady]) -> None:
    unsteady.down = True
    tracker = Tracker(tmp_path, uri, "dead at start", "d1")
    report(tracker, figure)
    time.sleep(0.1)
    assert runs_of(client, "dead at start") == {}
    unsteady.down = False
    assert tracker.close() == 0
    check(client, "dead at start", "d1")


def test_dead_in_the_middle(tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady]) -> None:
    tracker = Tracker(tmp_path, uri, "dead in the middle", "d2")
    busy = tracker.run("busy")
    busy.metrics({"loss": 1.0}, 1)
    sent(tracker)
    unsteady.down = True
    busy.metrics({"loss": 2.0}, 2)
    time.sleep(0.1)
    unsteady.down = False
    busy.metrics({"loss": 3.0}, 3)
    sent(tracker)
    assert history(client, runs_of(client, "dead in the middle")["busy"], "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert tracker.close() == 0


def test_dead_at_the_end(tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady]) -> None:
    tracker = Tracker(tmp_path, uri, "dead at end", "d3")
    flow = tracker.run("flow")
    sent(tracker)
    unsteady.down = True
    flow.metrics({"loss": 1.0}, 1)
    flow.end("FINISHED")
    started = time.perf_counter()
    assert tracker.close(timeout=30) == 2
    assert time.perf_counter() - started < 5.0
    assert runs_of(client, "dead at end")["flow"].info.status == "RUNNING"
    unsteady.down = False
    later = Tracker(tmp_path, uri, "later", "d4")  # the next flow of this home sends what was left
    later.run("flow")
    limit = time.monotonic() + 30
    while spools(tmp_path)[0].unsent() + spools(tmp_path)[1].unsent():
        assert time.monotonic() < limit
        time.sleep(0.02)
    found = runs_of(client, "dead at end")["flow"]
    assert (found.info.status, history(client, found, "loss")) == ("FINISHED", [(1, 1.0)])
    assert later.close() == 0


def test_sending_twice_is_sending_once(tmp_path: Path, uri: str, client: Any, figure: Path) -> None:
    tracker = Tracker(tmp_path, uri, "twice", "twice")
    report(tracker, figure)
    assert tracker.close() == 0
    tracker._spool._sent.unlink()  # as if the process had died before it noted anything
    assert tracker._spool.unsent() == OPERATIONS
    assert send_pending(tmp_path, uri) == 0
    check(client, "twice", "twice")


def test_a_server_that_fails_some_times(
    tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, int] = {}
    send = Server.send

    def failing(self: Server, operations: list[Any], runs: dict[str, str]) -> str | None:
        """Each operation is sent three times, the first two of which seem to fail: once before, once after it."""
        key = hash(json.dumps(operations[0], sort_keys=True))
        tries = seen[key] = seen.get(key, 0) + 1
        if tries == 1:
            raise ConnectionError("before")
        answer = send(self, operations, runs)
        if tries == 2:
            raise ConnectionError("after")
        return answer

    monkeypatch.setattr(Unsteady, "send", failing)
    tracker = Tracker(tmp_path, uri, "fails", "fails")
    report(tracker, figure)
    sent(tracker)
    assert tracker.close() == 0
    check(client, "fails", "fails")


def test_what_hangs_is_left_behind(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(Server, "send", lambda *_: release.wait(60) and None)
    tracker = Tracker(tmp_path, uri, "hangs", "hangs")
    tracker.run("flow").end()
    started = time.perf_counter()
    assert tracker.close(timeout=0.3) == 2
    assert time.perf_counter() - started < 2.0
    release.set()


# -- what cannot be sent ----------------------------------------------------------------------------------------------


def test_what_is_refused_is_set_aside_and_the_rest_arrives(
    tmp_path: Path, uri: str, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(tmp_path, uri, "refused", "refused")
    run = tracker.run("flow", params={"seed": 1})
    run.params({"seed": 2})
    run.artifact(tmp_path / "gone.png")
    run.metrics({"loss": 1.0}, 1)
    tracker.add({"op": "nonsense", "id": run.id})
    run.end()
    with caplog.at_level(logging.WARNING):
        assert tracker.close() == 0
    assert "set aside" in caplog.text
    found = runs_of(client, "refused")["flow"]
    assert (found.data.params, found.data.metrics) == ({"seed": "1"}, {"loss": 1.0})
    entries = [json.loads(line) for line in (tmp_path / "tracking" / "refused.aside").read_text().splitlines()]
    assert [entry["operation"]["op"] for entry in entries] == ["params", "artifact", "nonsense"]
    assert all(entry["final"] for entry in entries)


def test_what_fails_while_the_server_answers_holds_up_nothing(
    tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise OSError("the bucket is not there")

    with monkeypatch.context() as patch:
        patch.setattr(Unsteady, "_artifact", no_room)
        tracker = Tracker(tmp_path, uri, "no bucket", "no-bucket")
        run = tracker.run("flow")
        run.artifact(figure)
        run.metrics({"loss": 1.0}, 1)
        limit = time.monotonic() + 30
        while not runs_of(client, "no bucket").get("flow") or not runs_of(client, "no bucket")["flow"].data.metrics:
            assert time.monotonic() < limit
            time.sleep(0.05)
        run.end()
        assert tracker.close() == 1
    assert files(client, runs_of(client, "no bucket")["flow"]) == []
    assert send_pending(tmp_path, uri) == 0
    assert files(client, runs_of(client, "no bucket")["flow"]) == ["loss.png"]


def test_the_beginning_of_a_run_is_not_given_up(
    tmp_path: Path, uri: str, client: Any, figure: Path, unsteady: type[Unsteady], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows would have no run to belong to."""
    begin, tries = Server._begin, []

    def locked(self: Server, *arguments: Any) -> str:
        tries.append(arguments)
        if len(tries) <= 4:
            raise OSError("database is locked")
        return begin(self, *arguments)

    monkeypatch.setattr(Unsteady, "_begin", locked)
    monkeypatch.setattr(tracking_sender, "TRIES", 2)
    tracker = Tracker(tmp_path, uri, "locked", "locked")
    report(tracker, figure)
    sent(tracker)
    assert tracker.close() == 0
    check(client, "locked", "locked")


def test_a_home_that_takes_no_files_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tracking").write_text("not a folder")
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, DEAD, "nowhere", "nowhere") as tracker:
        tracker.run("flow").end()
        assert tracker.close(timeout=1) == 2
    assert "cannot be locked" in caplog.text
    assert "goes on without" in caplog.text


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "full")
    spool.append({"op": "end", "id": "a"})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]) if len(data) > 20 else _full())
    spool.append({"op": "end", "id": "torn in the middle"})
    monkeypatch.undo()
    spool.append({"op": "end", "id": "b"})
    assert spool.lost == 1
    assert [operation["id"] for operation, _ in spool.read(0) if operation] == ["a", "b"]


def _full() -> int:
    raise OSError(28, "No space left on device")


# -- spools -----------------------------------------------------------------------------------------------------------


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first = Spool(tmp_path, "torn")
    first.append({"op": "run", "id": "a"})
    first.close()
    with first.path.open("ab") as file:
        file.write(b'{"op": "tags", "id"')  # its process was killed
    assert len(first.read(0)) == 1
    second = Spool(tmp_path, "torn")
    second.append({"op": "end", "id": "a"})
    lines = second.read(0)
    assert [operation and operation["op"] for operation, _ in lines] == ["run", None, "end"]
    assert lines[-1][1] == second.path.stat().st_size


def test_writers_of_several_threads_and_spools_do_not_mix_lines(tmp_path: Path) -> None:
    writers = [Spool(tmp_path, "shared") for _ in range(4)]

    def write(number: int) -> None:
        for step in range(200):
            writers[number].append({"op": "metrics", "id": str(number), "step": step, "text": "x" * 300})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines, offset = [], 0
    while batch := writers[0].read(offset):
        lines += [operation for operation, _ in batch]
        offset = batch[-1][1]
    for number in range(4):
        assert [line["step"] for line in lines if line and line["id"] == str(number)] == list(range(200))


def test_damaged_progress_means_sending_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "damaged")
    spool.append({"op": "run", "id": "a"})
    spool.save(Progress(lines=1, offset=spool.path.stat().st_size))
    assert spool.unsent() == 0
    spool._sent.write_text("{")
    assert spool.unsent() == 1


OPERATION = st.one_of(
    st.builds(
        lambda run, width: {"op": "metrics", "id": run, "values": {f"m{n}": 0.5 for n in range(width)}},
        st.sampled_from("ab"),
        st.integers(1, 600),
    ),
    st.builds(lambda run, text: {"op": "text", "id": run, "text": text}, st.sampled_from("ab"), st.text()),
)


@given(operations=st.lists(OPERATION, max_size=12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_whatever_was_cut_off(operations: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), "cut")
        ends = []
        for operation in operations:
            spool.append(operation)
            ends.append(spool.path.stat().st_size)
        spool.close()
        size = ends[-1] if ends else 0
        cut = data.draw(st.integers(0, size))
        if operations:
            os.truncate(spool.path, cut)
        whole = sum(end <= cut for end in ends)
        assert [operation for operation, _ in spool.read(0)] == operations[:whole]
        again = Spool(Path(folder), "cut")
        again.append({"op": "end", "id": "a"})
        again.close()
        read = [operation for operation, _ in again.read(0) if operation]
        assert read == [*operations[:whole], {"op": "end", "id": "a"}]


@given(operations=st.lists(st.one_of(st.none(), OPERATION), max_size=12))
def test_only_metrics_of_one_run_are_sent_together(operations: list[dict[str, Any] | None]) -> None:
    groups = list(tracking_sender._groups([(operation, number) for number, operation in enumerate(operations)]))
    assert [operation for group, _ in groups for operation in group] == operations
    assert [end for _, end in groups] == [sum(len(g) for g, _ in groups[: n + 1]) - 1 for n in range(len(groups))]
    for group, _ in groups:
        if len(group) > 1:
            kinds = {operation and (operation["op"], operation["id"]) for operation in group}
            assert kinds in ({("metrics", "a")}, {("metrics", "b")})
            assert sum(len(operation["values"]) for operation in group if operation) <= 1000


def test_old_spools_are_tidied_only_when_all_was_sent(tmp_path: Path) -> None:
    for name, done, age in (("old", True, 30), ("kept", False, 30), ("new", True, 1)):
        spool = Spool(tmp_path, name)
        spool.append({"op": "tags", "id": "a", "tags": {}})
        if done:
            spool.save(Progress(lines=1, offset=spool.path.stat().st_size))
        when = time.time() - age * 86400
        os.utime(spool.path, (when, when))
        spool.tidy()
    assert {spool.name for spool in spools(tmp_path)} == {"kept", "new"}


def test_runs_of_a_killed_process_end_as_killed(tmp_path: Path, uri: str, client: Any) -> None:
    process = start(KILLED_FLOW, str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert recover(tmp_path) == 0, "it is alive"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert send_pending(tmp_path, uri) == 0
    status = {name: run.info.status for name, run in runs_of(client, "killed").items()}
    assert status == {"flow": "KILLED", "pretrain": "KILLED", "done": "FINISHED"}
    assert recover(tmp_path) == 0, "they were ended already"


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_a_call_costs_microseconds(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, DEAD, "cost", "cost")
    run = tracker.run("busy")
    values = {f"m{number}": 0.5 for number in range(8)}
    best = math.inf
    for step in range(500):
        started = time.perf_counter()
        run.metrics(values, step)
        best = min(best, time.perf_counter() - started)
    assert best < 0.001
    tracker.close(timeout=0)


def test_pages_of_a_server_have_addresses_without_passwords(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "http://me:secret@127.0.0.1:1/base/", "pages", "pages")
    run = tracker.run("flow")
    assert tracker.url(run) == "http://127.0.0.1:1/base/"
    tracker._server._experiments["pages"] = "12"
    tracker._sender.progress.runs[run.id] = "abc"
    assert tracker.url(run) == "http://127.0.0.1:1/base/#/experiments/12/runs/abc?workflowType=machine_learning"
    tracker.close(timeout=0)


def test_flatten() -> None:
    nested = {"a": {"b": {"c": 1.5}, "d": "text"}, "e": [1, {"f": None}], "g": {}, "h": None, "i": True}
    expected = {"a.b.c": "1.5", "a.d": "text", "e": '[1, {"f": null}]', "g": "{}", "h": "null", "i": "true"}
    assert flatten(nested) == expected


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("loss", "loss"), ("a/b c:d.e-f", "a/b c:d.e-f"), ("/x//../y/", "x/y"), ("..", "_"), ("", "_"), ("a%b", "a_b")],
)
def test_names_that_mlflow_allows(name: str, allowed: str) -> None:
    assert metric_name(name) == allowed


def test_follow_reads_what_is_there_and_what_comes(tmp_path: Path) -> None:
    path, stop = tmp_path / "metrics.jsonl", threading.Event()
    seen: list[int] = []
    thread = threading.Thread(target=follow, args=(path, lambda record: seen.append(record["step"]), stop, 0.01))
    thread.start()
    _wait_for(seen, [])
    path.write_text('{"step": 1}\n{"step": 2}\nnot json\n{"other": 3}\n{"ste')
    _wait_for(seen, [1, 2])
    with path.open("a") as file:
        file.write('p": 3, "loss": NaN}\n')
    _wait_for(seen, [1, 2, 3])
    path.write_text('{"step": 7}\n')
    _wait_for(seen, [1, 2, 3, 7])
    with path.open("a") as file:
        file.write('{"step": 8}\n{"step": 9}')
    stop.set()
    thread.join()
    assert seen == [1, 2, 3, 7, 8]


def _wait_for(seen: list[int], expected: list[int]) -> None:
    limit = time.monotonic() + 10
    while seen != expected:
        assert time.monotonic() < limit, f"{seen} instead of {expected}"
        time.sleep(0.01)


def test_a_record_of_training_becomes_metrics(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, DEAD, "records", "records")
    run = tracker.run("pretrain")
    run.record({"step": 3, "samples": 96, "time": 12.5, "loss": 4.0})
    tracker.close(timeout=0)
    operation = [operation for operation, _ in tracker._spool.read(0)][-1]
    assert operation == {
        "op": "metrics", "id": run.id, "values": {"samples": 96.0, "loss": 4.0}, "step": 3, "time": 12500,
    }  # fmt: skip
