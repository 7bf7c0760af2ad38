"""Nothing reported is lost, whatever happens to the server, to the disk or to an operation."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking import sender
from pipeline.tracking.mlflow_server import Server
from pipeline.tracking.spool import Spool, spools
from pipeline.tracking.tracking import Tracker, send_pending
from tests.pipeline.tracked import DEAD, OPERATIONS, Unsteady, check, files, history, report, runs_of, senders, sent

pytestmark = pytest.mark.usefixtures("elsewhere")

# -- when the server is not there -------------------------------------------------------------------------------------


def test_a_dead_server_holds_nobody_up_and_loses_nothing(
    tmp_path: Path, uri: str, client: Any, figure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = senders(monkeypatch)
    tracker = Tracker(tmp_path, DEAD, "dead", "dead-flow")
    report(tracker, figure)
    assert tracker.close(timeout=120) == OPERATIONS
    assert set(tries) == {"tracking"}, "only the thread that sends waits for a server"
    assert sender.LAST_TRIES <= len(tries) <= sender.LAST_TRIES + 2, "nobody is there: it should not try for long"
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


def test_dead_at_the_end(
    tmp_path: Path, uri: str, client: Any, unsteady: type[Unsteady], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = senders(monkeypatch)
    tracker = Tracker(tmp_path, uri, "dead at end", "d3")
    flow = tracker.run("flow")
    sent(tracker)
    unsteady.down = True
    flow.metrics({"loss": 1.0}, 1)
    flow.end("FINISHED")
    tries.clear()
    assert tracker.close(timeout=120) == 2
    assert len(tries) <= sender.LAST_TRIES + 2
    assert runs_of(client, "dead at end")["flow"].info.status == "RUNNING"
    unsteady.down = False
    later = Tracker(tmp_path, uri, "later", "d4")  # the next flow of this home sends what was left
    later.run("flow")
    limit = time.monotonic() + 30
    while spools(tmp_path)[0].unsent() + spools(tmp_path)[1].unsent():
        assert time.monotonic() < limit
        time.sleep(0.02)
    run = runs_of(client, "dead at end")["flow"]
    assert (run.info.status, history(client, run, "loss")) == ("FINISHED", [(1, 1.0)])
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
    assert tracker.close(timeout=0.3) == 2
    assert tracker._sender._thread.is_alive(), "nobody waited for it"
    release.set()
    tracker._sender._thread.join(60)
    assert not tracker._sender._thread.is_alive()


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
    flow = runs_of(client, "refused")["flow"]
    assert (flow.data.params, flow.data.metrics) == ({"seed": "1"}, {"loss": 1.0})
    entries = [json.loads(line) for line in (tmp_path / "tracking" / "refused.aside").read_text().splitlines()]
    assert [entry["operation"]["op"] for entry in entries] == ["params", "artifact", "nonsense"]
    assert all(entry["final"] for entry in entries)
    assert [refusal.partition(":")[0] for refusal in tracker.refused()] == ["params", "artifact", "nonsense"]


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
    monkeypatch.setattr(sender, "TRIES", 2)
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
