"""Runs that are told to end, wherever they are; and whose own Prefect is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.live import WORK
from pipeline.store.store import Store
from tests.faults.base import curve
from tests.flows.end_to_end.test_quickstart import SESAME
from tests.flows.machine.test_prefect_server import gone
from tests.flows.tiny_flow import GATE
from tests.flows.trouble.test_interruption import checkpoints, group
from tests.pipeline import tiny
from training.job import METRICS

pytestmark = pytest.mark.slow

TINY_FLOW = [sys.executable, "-m", "tests.flows.tiny_flow"]
STEPS = 300


def start(folder: Path, command: list[str], *arguments: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it."""
    environment = {**os.environ, "SESAME_HOME": str(folder / "home"), GATE: str(folder)}
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "SESAME_STORE"):
        environment.pop(name, None)
    return subprocess.Popen(
        [*command, *arguments, "--json"], env=environment, cwd=Path(__file__).parents[3], text=True, process_group=0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 200
    while not reached():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


def tell(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Ctrl-C reaches all of a terminal's processes, SIGTERM one."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """As it should be for one that was told to."""
    out, err = process.communicate(timeout=150)
    assert process.returncode == 128 + number, out + err
    assert "sesame resume" in err and "Traceback" not in err, err
    assert group(process.pid) == []


def states(home: Path) -> dict[str, Any]:
    """What the record, MLflow and Prefect say became of the one run."""
    [path] = (home / "runs").glob("*.json")
    record = json.loads(path.read_text())
    with sqlite3.connect(home / "mlflow" / "mlflow.db") as database:
        statuses = dict(database.execute("select name, status from runs").fetchall())
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        flows = [state for (state,) in database.execute("select state_type from flow_run")]
    return {"record": record["status"], "flow": statuses.pop(record["run_id"]), "stages": statuses, "Prefect": flows}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_does_not_train_is_ended_where_it_is(tmp_path: Path, number: signal.Signals) -> None:
    recipe = str(tiny.recipe(tmp_path))
    process = start(tmp_path, TINY_FLOW, "run", recipe)
    wait(process, (tmp_path / "arrived").exists)
    tell(process, number)
    ended(process, number)
    home = tmp_path / "home"
    assert states(home) == {
        "record": "interrupted",
        "flow": "KILLED",
        "stages": {"ingest": "FINISHED", "pretrain": "KILLED"},
        "Prefect": ["CRASHED"],
    }
    assert [artifact.stage for artifact in Store(home / "store").list()] == ["ingest"]
    assert not list((home / "store").glob("pretrain-*")), "nothing half-made"
    assert gone(home / "prefect")
    (tmp_path / "go").touch()
    again = start(tmp_path, TINY_FLOW, "resume", "last")
    stages = json.loads(again.communicate(timeout=150)[0].splitlines()[-1])["stages"]
    assert {name: stage["reused"] for name, stage in stages.items()} == {"ingest": True, "pretrain": False}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_has_hardly_begun_ends_as_well(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, TINY_FLOW, "run", str(tiny.recipe(tmp_path)))
    wait(process, (tmp_path / "home" / "prefect" / "server.json").exists)  # which is starting
    tell(process, number)
    ended(process, number)
    assert not (tmp_path / "home" / "runs").exists()
    assert gone(tmp_path / "home" / "prefect", seconds=60)


def test_a_prefect_that_is_killed_is_started_again(tmp_path: Path) -> None:
    process = start(tmp_path, TINY_FLOW, "run", str(tiny.recipe(tmp_path)))
    wait(process, (tmp_path / "arrived").exists)
    server_file = tmp_path / "home" / "prefect" / "server.json"
    first = json.loads(server_file.read_text())
    os.kill(first["pid"], signal.SIGKILL)
    wait(process, lambda: json.loads(server_file.read_text())["pid"] != first["pid"])
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["status"] == "done" and "went away" not in err
    assert states(tmp_path / "home")["Prefect"] == ["COMPLETED"]
    assert gone(tmp_path / "home" / "prefect")


def test_a_training_that_was_stopped_twice_is_the_one_that_never_was(tmp_path: Path) -> None:
    """Bit for bit: its records and its weights."""
    recipe = str(tiny.recipe(tmp_path, steps=STEPS))
    settings = ("placement.threads=1", "placement.checkpoint_every=1000", "train.evaluate_every=100", "downstream=[]")
    few = [word for setting in settings for word in ("--set", setting)]
    store = Store(tmp_path / "home" / "store")

    def pretrained() -> dict[str, Any]:
        [artifact] = [candidate for candidate in store.list() if candidate.stage == "pretrain"]
        return {"key": artifact.key, "digest": artifact.output_digest, "curve": curve(artifact)}

    def has_come_to(step: int) -> Callable[[], bool]:
        """A line for every second step."""

        def reached() -> bool:
            logs = (store.home / WORK).glob(f"pretrain-*/{METRICS}")
            return any(path.read_bytes().count(b"\n") >= step // 2 for path in logs)

        return reached

    uninterrupted = start(tmp_path, SESAME, "run", recipe, *few)
    assert uninterrupted.communicate(timeout=200) and uninterrupted.returncode == 0
    wanted = pretrained()
    store.delete(wanted["key"])
    run = start(tmp_path, SESAME, "run", recipe, *few)
    for number, step in ((signal.SIGINT, STEPS // 4), (signal.SIGTERM, STEPS // 2)):
        wait(run, has_come_to(step))
        tell(run, number)
        ended(run, number)
        assert checkpoints(tmp_path)[-1]["step"] >= step
        run = start(tmp_path, SESAME, "resume", "last")
    assert run.communicate(timeout=200) and run.returncode == 0
    assert [record["step"] for record in wanted["curve"]] == list(range(2, STEPS + 1, 2))
    assert pretrained() == wanted
