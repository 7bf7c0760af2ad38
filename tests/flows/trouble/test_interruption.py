"""A run that is stopped by Ctrl-C or by SIGTERM: what is left behind, and that it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.end_to_end.test_quickstart import SESAME, sesame
from tests.pipeline import tiny

pytestmark = pytest.mark.slow

STEPS = 3000
RARELY = ["--set", "placement.checkpoint_every=30", "--set", "train.evaluate_every=0", "--set", "placement.threads=1"]


def started(home: Path, recipe: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run in a process group of its own, as a shell starts it, once training has written its first checkpoint."""
    environment = {**os.environ, "SESAME_HOME": str(home / "home")}
    process = subprocess.Popen(
        [*SESAME, "run", str(recipe), *RARELY, *arguments], cwd=home, env=environment, text=True, process_group=0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 400
    while time.monotonic() < until and process.poll() is None:
        if checkpoints(home):
            return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


def checkpoints(home: Path) -> list[dict[str, Any]]:
    """What is known of the committed ones, the newest last."""
    markers = [json.loads(path.read_text()) for path in (home / "home").glob("store/**/checkpoints/*/checkpoint.json")]
    return sorted(markers, key=lambda marker: marker["step"])


def group(leader: int) -> list[str]:
    """Commands of the processes in a group or session, zombies left out."""
    processes = subprocess.run(["ps", "-eo", "pgid=,sid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 3) for line in processes.stdout.splitlines()]
    return [args for pgid, sid, state, args in lines if str(leader) in (pgid, sid) and not state.startswith("Z")]


def is_told_as_stopped(home: Path) -> None:
    """In the run's record, in MLflow and in Prefect."""
    [path] = (home / "home" / "runs").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "interrupted"
    assert "pretrain" not in record["stages"]
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/home/mlflow/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "tiny"]
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert states[record["run_id"]] == "KILLED"
    assert states["pretrain"] == "KILLED"
    assert states["shards"] == "FINISHED"
    with sqlite3.connect(home / "home" / "prefect" / "prefect.db") as database:
        flows = [state for (state,) in database.execute("select state_type from flow_run")]
        tasks = dict(database.execute("select name, state_type from task_run").fetchall())
    assert flows == ["CRASHED"]
    assert tasks["pretrain"] == "CRASHED" and tasks["shards"] == "COMPLETED"


def goes_on_from(home: Path, step: int) -> None:
    resumed = sesame(home, "resume", "last", "--json")
    stages = json.loads(resumed.stdout.strip().splitlines()[-1])["stages"]
    assert stages["shards"]["reused"] and not stages["pretrain"]["reused"]
    folder = Path(stages["pretrain"]["path"])
    assert json.loads((folder.parent / "manifest.json").read_text())["summary"]["resumed_from"] == step
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
    assert steps == list(range(2, STEPS + 1, 2)), "each logged step once, in order"


@pytest.mark.parametrize(
    ("workers", "number", "code"), [(1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (2, signal.SIGTERM, 143)]
)
def test_a_stopped_run_leaves_a_checkpoint_and_goes_on(
    tmp_path: Path, workers: int, number: signal.Signals, code: int
) -> None:
    recipe = tiny.recipe(tmp_path, workers=workers, steps=STEPS)
    process = started(tmp_path, recipe)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what a terminal does on Ctrl-C
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, out + err
    assert "sesame resume" in err and "Traceback" not in err, err
    assert "warning: stopping at the end of this step" in out
    assert group(process.pid) == []
    step = checkpoints(tmp_path)[-1]["step"]
    assert step % 30, "not a step at which one was due"
    is_told_as_stopped(tmp_path)
    goes_on_from(tmp_path, step)


@pytest.mark.parametrize("patience", ["once more", "no more"])
def test_a_worker_that_hangs_does_not_hold_up_the_end(tmp_path: Path, patience: str) -> None:
    """It cannot finish its step; one more Ctrl-C ends the run at once, and without one a limit does."""
    recipe = tiny.recipe(tmp_path, workers=2, steps=STEPS)
    limit = 3 if patience == "no more" else 600
    process = started(tmp_path, recipe, "--set", f"placement.watch.stop_seconds={limit}")
    workers = [
        p for p in psutil.Process(process.pid).children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())
    ]
    assert len(workers) == 2
    workers[1].suspend()
    os.killpg(process.pid, signal.SIGINT)
    if patience == "once more":
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 130, out + err
    assert "sesame resume" in err and "Traceback" not in err, err
    assert group(process.pid) == []
    is_told_as_stopped(tmp_path)
    assert checkpoints(tmp_path)[-1]["step"] % 30 == 0
