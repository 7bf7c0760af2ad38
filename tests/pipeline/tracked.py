"""What tests of tracking share: a small flow that says a bit of everything, and how it is found in MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.mlflow_server import Server
from pipeline.tracking.tracking import TrackedRun, Tracker

ROOT = Path(__file__).parents[2]
DEAD = "http://127.0.0.1:1"
OPERATIONS = 15  # of `report`


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


class Unsteady(Server):
    """A server that can be switched off, for all connections at once."""

    down = False

    @property
    def client(self) -> Any:
        if Unsteady.down:
            raise ConnectionError("nobody there")
        return super().client


def senders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that sent something, or tried to, one for each try; filled from now on."""
    names: list[str] = []
    send = Server.send

    def noted(server: Server, *arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return send(server, *arguments)

    monkeypatch.setattr(Server, "send", noted)
    return names


def runs_of(client: Any, experiment: str) -> dict[str, Any]:
    mlflow_experiment = client.get_experiment_by_name(experiment)
    if mlflow_experiment is None:
        return {}
    runs = client.search_runs([mlflow_experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs), "a run is there twice"
    return by_name


def history(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def files(client: Any, run: Any, folder: str = "") -> list[str]:
    return sorted(entry.path for entry in client.list_artifacts(run.info.run_id, folder))


def stored(client: Any, run: Any, file: str) -> Any:
    """What a JSON artifact holds."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(Path(client.download_artifacts(run.info.run_id, file, folder)).read_text(encoding="utf-8"))


def table(client: Any, run: Any, file: str) -> list[dict[str, Any]]:
    """The rows of a table as anybody reads them from MLflow."""
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", run.info.experiment_id)
        return mlflow.load_table(file, [run.info.run_id]).to_dict("records")


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
    stage.table(["split", "rows"], [["train", 10], ["validation", 2]], "tables/rows.json")
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
    assert files(client, stage) == ["figures", "report.md", "tables"]
    assert files(client, stage, "figures") == ["figures/loss.png"]
    assert table(client, stage, "tables/rows.json") == [
        {"split": "train", "rows": 10},
        {"split": "validation", "rows": 2},
    ]
    (data,) = stage.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("shards", "d" * 32)
    assert json.loads(data.dataset.profile) == {"rows": 10}
    assert json.loads(data.dataset.source) == {"uri": "/data/shards"}
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
