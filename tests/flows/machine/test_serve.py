"""The servers of `sesame ui`, started once each: strangers are kept out, the home's own processes are not."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect.workers.process import ProcessJobConfiguration

from flows.machine import access, password
from pipeline.tracking.mlflow_server import Server
from pipeline.tracking.tracking import Tracker
from tests.flows.runner import basic
from tests.pipeline.tracked import ROOT, check, report

JSON = {"Content-Type": "application/json"}


class MLflow:
    """A running server, its home, and the folder that it was started in."""

    def __init__(self, folder: Path) -> None:
        self.home, self.cwd = folder / "home", folder / "cwd"
        self.cwd.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.artifacts = self.home / "mlflow" / "artifacts"
        log = (folder / "log").open("wb")
        environment = {**os.environ, "SESAME_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "flows.machine.serve", "mlflow", "--port", str(self.port), "--direct"]
        self.process = subprocess.Popen(command, cwd=self.cwd, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.1)

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str) -> tuple[int, str]:
        """Status and text of an answer; with the password unless `Authorization` is given."""
        secret = password.of(self.home / "servers")
        headers = {"Authorization": basic(f"sesame:{secret}"), **JSON, **headers}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method or None)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def make(self, what: str, **body: Any) -> tuple[int, Any]:
        status, text = self.ask(f"/api/2.0/mlflow/{what}", body)
        return status, json.loads(text)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    server = MLflow(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.process.terminate()
    server.process.wait(30)
    assert not list((server.home / "servers").glob("*.json"))


def test_mlflow_wants_its_name_its_pages_and_the_password(mlflow: MLflow) -> None:
    wrong = {"Authorization": basic("sesame:wrong")}
    assert mlflow.ask("/api/2.0/mlflow/experiments/create", {"name": "stranger"}, **wrong)[0] == 401
    assert mlflow.ask("/", **wrong)[0] == mlflow.ask("/version", **wrong)[0] == 401
    search = "/api/2.0/mlflow/experiments/search?max_results=9"
    assert mlflow.ask(search, Host="evil.com")[0] == mlflow.ask(search, Origin="http://localhost:3000")[0] == 403
    status, text = mlflow.ask(search)
    assert status == 200 and "stranger" not in text
    assert mlflow.ask("/ajax-api/3.0/mlflow/assistant/config")[0] == 404


@pytest.mark.parametrize("location", ["/etc", "file:///etc", "s3://bucket/x", "gs://b/x", "dbfs:/x", "ftp://127.0.0.1/x",
                                      "{home}/servers", "{artifacts}/../../servers", "file://{artifacts}/%2e%2e/x",
                                      "http://127.0.0.1:1/x", "mlflow-artifacts://evil/x"])  # fmt: skip
def test_locations_elsewhere_are_refused(mlflow: MLflow, location: str) -> None:
    place = location.format(home=mlflow.home, artifacts=mlflow.artifacts)
    assert mlflow.make("experiments/create", name=place, artifact_location=place)[0] == 400
    mlflow.make("registered-models/create", name="model")
    assert mlflow.make("model-versions/create", name="model", source=place)[0] == 400


def test_what_lies_elsewhere_is_not_read_even_if_the_database_says_so(mlflow: MLflow, tmp_path: Path) -> None:
    """However such a location came there: older databases hold some."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hidden")
    _, made = mlflow.make("experiments/create", name="elsewhere")
    with closing(sqlite3.connect(mlflow.home / "mlflow" / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'elsewhere'", (str(tmp_path),))
    _, run = mlflow.make("runs/create", experiment_id=made["experiment_id"], start_time=1)
    run_id = run["run"]["info"]["run_id"]
    with closing(sqlite3.connect(mlflow.home / "mlflow" / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (str(secret), run_id))
    for path in (f"/get-artifact?path=key&run_uuid={run_id}", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}"):
        status, text = mlflow.ask(path)
        assert status == 403 and "hidden" not in text and "key" not in text
    upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=new"
    assert mlflow.ask(upload, b"x")[0] == 403 and not (secret / "new").exists()
    assert mlflow.make("model-versions/create", name="model", source=f"{secret}", run_id=run_id)[0] == 400


def test_files_by_way_of_the_server_stay_in_the_home(mlflow: MLflow) -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts"
    assert mlflow.ask(f"{path}/some/file.txt", b"text", "PUT")[0] == 200
    assert (mlflow.artifacts / "some" / "file.txt").read_text() == "text"
    for up in ("../x", "%2e%2e/x", "..%2fx", "some/../../x"):
        assert mlflow.ask(f"{path}/{up}", b"text", "PUT")[0] in (400, 404)
    assert not (mlflow.artifacts.parent / "x").exists() and not list(mlflow.cwd.iterdir())


def test_runs_of_the_home_get_in_without_being_asked(
    mlflow: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that it is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    monkeypatch.chdir(mlflow.cwd)
    figure = tmp_path / "loss.png"
    figure.write_bytes(b"\x89PNG")
    assert not Server(tmp_path, mlflow.url).answers()
    access.lend(mlflow.home / "servers")
    with Tracker(mlflow.home, mlflow.url, "tracked", "run-1") as tracker:
        report(tracker, figure)
        assert tracker.close(60) == 0
    check(Server(mlflow.home, mlflow.url).client, "tracked", "run-1")
    assert not list(mlflow.cwd.iterdir())


# -- Prefect, as every run starts it ----------------------------------------------------------------------------------


def prefect(server: str, path: str, body: Any = None, auth: str | None = None, **headers: str) -> int:
    given = {} if auth is None else {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server}{path}", data, {**JSON, **given, **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_prefect_wants_its_name_its_pages_and_the_password(server: str) -> None:
    auth = os.environ["PREFECT_API_AUTH_STRING"]
    for given in (None, "sesame:wrong", ":"):
        assert prefect(server, "/flows/", {"name": "stranger"}, given) == 401
        assert prefect(server, "/deployments/filter", {}, given) == 401
    assert prefect(server, "/flows/filter", {}, auth) == 200
    assert prefect(server, "/flows/filter", {}, auth, Host="evil.com") == 403
    assert prefect(server, "/flows/filter", {}, auth, Origin="http://evil.com") == 403
    assert prefect(server, "/health") == 200


def test_the_pool_takes_no_command_environment_or_folder_from_outside(server: str) -> None:
    """`infra/pool.json`, for which the README's and compose's commands make the pool."""
    auth, name = os.environ["PREFECT_API_AUTH_STRING"], f"pool-{os.getpid()}"
    template = json.loads((ROOT / "infra" / "pool.json").read_text())
    assert (
        prefect(server, "/work_pools/", {"name": name, "type": "process", "base_job_template": template}, auth) == 201
    )
    request = urllib.request.Request(
        f"{server}/flows/", json.dumps({"name": name}).encode(), {**JSON, "Authorization": basic(auth)}
    )
    flow = json.load(urllib.request.urlopen(request, timeout=60))["id"]
    deployment = {"name": name, "flow_id": flow, "work_pool_name": name}
    for variables in ({"command": "id"}, {"env": {"LD_PRELOAD": "x"}}, {"working_dir": "/"}, {"anything": 1}):
        assert prefect(server, "/deployments/", {**deployment, "job_variables": variables}, auth) >= 400
    assert prefect(server, "/deployments/", deployment, auth) == 201
    request = urllib.request.Request(f"{server}/deployments/name/{name}/{name}", None, {"Authorization": basic(auth)})
    made = json.load(urllib.request.urlopen(request, timeout=60))["id"]
    run = f"/deployments/{made}/create_flow_run"
    for variables in ({"command": "id"}, {"env": {"LD_PRELOAD": "x"}}, {"working_dir": "/"}):
        assert prefect(server, run, {"job_variables": variables}, auth) >= 400
    assert prefect(server, run, {}, auth) == 201


def test_variables_that_prefect_does_not_check_change_nothing_in_the_pool() -> None:
    """It lets pass those of a deployment that is changed, and of a run that belongs to none."""
    template = json.loads((ROOT / "infra" / "pool.json").read_text())
    given = {"command": "id", "env": {"LD_PRELOAD": "x"}, "working_dir": "/"}
    client: Any = object()  # of which nothing is asked
    made: Any = asyncio.run(
        ProcessJobConfiguration.from_template_and_values(template, given, client=client)  # type: ignore[arg-type]
    )
    assert (made.command, made.env, made.working_dir) == (None, {}, None)
