"""A run that is stopped by Ctrl-C or by SIGTERM: what is left behind, and that it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.flows.test_end_to_end import SESAME, sesame
from tests.pipeline import tiny

pytestmark = pytest.mark.slow

STEPS = 3000


def started(home: Path, recipe: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run in a process group of its own, as a shell starts it, once training has written its first checkpoint."""
    environment = {**os.environ, "SESAME_HOME": str(home / "home")}
    process = subprocess.Popen(
        [*SESAME, "run", str(recipe), *arguments], cwd=home, env=environment, text=True, process_group=0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        if list((home / "home").glob("store/**/checkpoints/*")):
            return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


def group(leader: int) -> list[str]:
    """Commands of the processes in a group or session, zombies left out."""
    found = subprocess.run(["ps", "-eo", "pgid=,sid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 3) for line in found.stdout.splitlines()]
    return [args for pgid, sid, state, args in lines if str(leader) in (pgid, sid) and not state.startswith("Z")]


@pytest.mark.parametrize(
    ("workers", "number", "code"), [(1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (2, signal.SIGTERM, 143)]
)
def test_a_stopped_run_is_told_as_stopped_and_goes_on(
    tmp_path: Path, workers: int, number: signal.Signals, code: int
) -> None:
    recipe = tiny.recipe(tmp_path, workers=workers, steps=STEPS)
    long = ["--set", "placement.checkpoint_every=100", "--set", "train.evaluate_every=0"]
    process = started(tmp_path, recipe, *long)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what a terminal does on Ctrl-C
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, out + err
    assert "sesame resume" in err and "Traceback" not in err, err
    assert group(process.pid) == []

    [path] = (tmp_path / "home" / "runs").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "interrupted"
    assert "pretrain" not in record["stages"]
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/home/mlflow/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "tiny"]
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert states[record["run_id"]] == "KILLED"
    assert states["pretrain"] == "KILLED"
    assert states["shards"] == "FINISHED"
    with sqlite3.connect(tmp_path / "home" / "prefect" / "prefect.db") as database:
        flows = [state for (state,) in database.execute("select state_type from flow_run")]
        tasks = dict(database.execute("select name, state_type from task_run").fetchall())
    assert flows == ["CRASHED"]
    assert tasks["pretrain"] == "CRASHED" and tasks["shards"] == "COMPLETED"

    resumed = sesame(tmp_path, "resume", "last", "--json")
    stages = json.loads(resumed.stdout.strip().splitlines()[-1])["stages"]
    assert stages["shards"]["reused"] and not stages["pretrain"]["reused"]
    steps = [json.loads(line)["step"] for line in (Path(stages["pretrain"]["path"]) / "metrics.jsonl").open()]
    assert steps == list(range(2, STEPS + 1, 2)), "each logged step once, in order"
