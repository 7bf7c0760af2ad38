"""What is sent again, how often, and what is given up, with a server that is a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking import sender
from pipeline.tracking.mlflow_server import RefusedError
from pipeline.tracking.sender import TRIES, forward
from pipeline.tracking.spool import Progress, Spool


class Server:
    """Takes operations, but for those of `failing`, as often as that says."""

    uri = "list"

    def __init__(self, failing: dict[str, Exception], alive: bool = True) -> None:
        self.failing, self.alive, self.taken = failing, alive, list[str]()

    def answers(self) -> bool:
        return self.alive

    def send(self, operations: list[dict[str, Any]], runs: dict[str, str]) -> None:
        for operation in operations:
            if error := self.failing.get(operation["op"]):
                raise error
            self.taken.append(operation["op"])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path, "flow")
    for name in ("run", "tags", "end"):
        made.append({"op": name, "id": "a"})
    return made


def passes(spool: Spool, server: Server) -> int:
    """After how many failed passes everything was sent or set aside; TRIES + 3 if it never was."""
    progress, no_stop = Progress(), lambda: False
    for failed in range(TRIES + 3):
        try:
            while forward(spool, progress, server, no_stop):  # type: ignore[arg-type]
                pass
            return failed
        except (RefusedError, OSError):
            assert progress.lines == len(server.taken)
    return TRIES + 3


@pytest.mark.parametrize(
    ("operation", "error", "failures"),
    [
        ("tags", RefusedError("no such tag"), 0),  # nothing else needs it
        ("tags", OSError("database is locked"), TRIES - 1),
        ("run", RefusedError("no such experiment"), TRIES - 1),  # all that follows belongs to it
        ("run", OSError("database is locked"), TRIES + 3),
    ],
)
def test_what_fails_is_given_up_by_what_it_is(spool: Spool, operation: str, error: Exception, failures: int) -> None:
    server = Server({operation: error})
    assert passes(spool, server) == failures
    given_up = failures <= TRIES
    assert server.taken == [name for name in ("run", "tags", "end") if name != operation] * given_up
    aside = spool.path.with_suffix(".aside")
    kept = [json.loads(line)["operation"]["op"] for line in aside.read_text().splitlines()] if aside.exists() else []
    assert kept == [operation] * given_up


def test_nothing_is_given_up_while_the_server_is_away(spool: Spool) -> None:
    server = Server({"tags": RefusedError("a proxy says no")}, alive=False)
    assert passes(spool, server) == TRIES + 3 and server.taken == ["run"]
    server.alive = True
    assert passes(spool, server) == 0 and server.taken[-1] == "end"


def test_a_sender_waits_longer_after_every_failure_up_to_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    server: Any = Server({})
    server.home = tmp_path
    made = sender.Sender(Spool(tmp_path, "waits"), server)
    monkeypatch.setattr(made._closing, "wait", waits.append)
    for failures in (1, 2, 3, 8, 50, 5000):
        made._pause(failures)
    made.close(0)
    assert waits == [0.5, 1.0, 2.0, 60.0, 60.0, 60.0]
