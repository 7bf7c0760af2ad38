"""MLflow on a SQLite file that all tests of tracking share."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking import sender, tracking
from pipeline.tracking.mlflow_server import Server, default_uri
from tests.folders import shared
from tests.pipeline.tracked import Unsteady, start

ONE_FLOW = """
import sys
from pathlib import Path
from pipeline.tracking.tracking import Tracker

tracker = Tracker(Path(sys.argv[1]), None, "at once", sys.argv[2])
with tracker.run("flow") as run:
    run.metrics({"loss": 1.0}, step=1)
unsent = tracker.close(timeout=120)
assert "mlflow" in sys.modules
sys.exit(unsent)
"""


@pytest.fixture(scope="session")
def begun_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str]]]:
    """A fresh home (a space in its name) on which two processes track at once; how these ended, what they said.

    All test processes share it.
    """
    home = shared(tmp_path_factory) / "a home"
    ends = home.with_suffix(".json")
    with home.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ends.exists():
            home.mkdir()
            processes = [start(ONE_FLOW, str(home), f"flow-{number}") for number in range(2)]
            outputs = ["".join(process.communicate()) for process in processes]
            codes = [process.returncode for process in processes]
            ends.write_text(json.dumps(list(zip(codes, outputs, strict=True))))
    return home, [(code, text) for code, text in json.loads(ends.read_text())]


@pytest.fixture(scope="session")
def uri(begun_at_once: tuple[Path, list[tuple[int, str]]]) -> str:
    """One SQLite file for all."""
    return default_uri(begun_at_once[0])


@pytest.fixture(scope="session")
def client(uri: str) -> Any:
    return Server(Path(uri.removeprefix("sqlite:///")).parents[1], uri).client


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Unsteady]]:
    monkeypatch.setattr(tracking, "Server", Unsteady)
    monkeypatch.setattr(sender, "Server", Unsteady)
    monkeypatch.setattr(sender, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(sender, "LINGER_SECONDS", 0.0)
    Unsteady.down = False
    yield Unsteady
    Unsteady.down = False


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow leaves nothing in the current folder, and its idea of the active run and server is not used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    path = tmp_path / "plots" / "loss.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG")
    return path
