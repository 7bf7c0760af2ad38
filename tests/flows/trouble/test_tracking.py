"""MLflow that is gone or slow while a whole flow tells it: nothing waits, nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import pretrain
from pipeline import runs
from pipeline.stage import Context
from pipeline.tracking.tracking import send_pending
from tests.flows.runner import Runner
from tests.flows.tiny_flow import STEPS, Proxy
from tests.pipeline.tracked import history, runs_of

pytestmark = pytest.mark.slow  # a server takes its time to start

SLOW = 0.5  # seconds before each request is passed on


@pytest.fixture(scope="module")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mlflow")
    proxy = Proxy(0)  # for a free port
    port = proxy.port
    proxy.take_down()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                Path(sys.executable).parent / "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
                "--artifacts-destination", folder / "artifacts", "--host", "127.0.0.1", "--port", str(port),
                "--workers", "1",
            ],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
    yield port
    os.killpg(process.pid, 15)
    process.wait(30)


@pytest.mark.parametrize("when", ["start", "middle", "end", "slow"])
def test_what_mlflow_missed_it_is_told_later(
    runner: Runner, mlflow_port: int, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Gone from the start to the middle, for a second in the middle, from the middle to after the end; or slow."""
    recipe = Path(runner.recipe)
    recipe.write_text(recipe.read_text().replace("name: tiny", f"name: {when}"))
    proxy = Proxy(mlflow_port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
    if when in ("start", "middle"):
        monkeypatch.setattr(pretrain, "MLFLOW_TIMEOUT", 60.0)
    if when == "start":
        proxy.take_down()
    if when == "slow":
        proxy.delay = SLOW

    def work(context: Context) -> None:
        if context.key.startswith("ingest"):
            return
        if when != "slow":
            time.sleep(1.0)  # so that it is told, or fails to be, while the stage works
        if when == "start":
            proxy.bring_up()
        elif when in ("middle", "end"):
            proxy.take_down()
        if when == "middle":
            threading.Timer(1.0, proxy.bring_up).start()

    began = time.monotonic()
    record = runner.run(work)
    seconds = time.monotonic() - began
    assert record.status == runs.DONE
    if when in ("end", "slow"):
        assert record.unsent > 0 and record.stages["pretrain"].seconds < 2 and seconds < 20
        assert runs.find(runner.home.runs, "last").unsent == record.unsent
        if when == "end":
            proxy.bring_up()
        proxy.delay = 0.0
        until = time.monotonic() + 60  # a request that hangs holds the spool until it is answered
        while send_pending(runner.home.path, proxy.url) and time.monotonic() < until:
            time.sleep(0.2)
        assert send_pending(runner.home.path, proxy.url) == 0
    else:
        assert record.unsent == 0
    client = MlflowClient(f"http://127.0.0.1:{mlflow_port}")
    mlflow_runs = runs_of(client, when)
    assert set(mlflow_runs) == {record.run_id, "ingest", "pretrain"}
    assert {run.info.status for run in mlflow_runs.values()} == {"FINISHED"}
    assert history(client, mlflow_runs["pretrain"], "train/loss") == [(step, 1 / step) for step in range(1, STEPS + 1)]
    assert mlflow_runs["pretrain"].data.tags["artifact"] == record.stages["pretrain"].artifact
    assert mlflow_runs[record.run_id].data.params["train.steps"] == "8"
    proxy.take_down()
