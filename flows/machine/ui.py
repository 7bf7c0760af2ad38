"""MLflow's and Prefect's web UIs for this home, on loopback, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from data_prep.errors import UserError
from flows.machine.environment import prepare
from flows.show.console import new_console
from pipeline.home import Home

HOST = "127.0.0.1"
START_SECONDS = 120
PAGES = {"MLflow ": "/#/experiments?workflowType=machine_learning", "Prefect": "/runs"}  # where our runs are


def serve(mlflow_port: int, prefect_port: int) -> None:
    """Start both servers, print their addresses, and stop them on Ctrl-C or SIGTERM. UserError for equal ports."""
    if mlflow_port == prefect_port:
        raise UserError(f"--mlflow-port and --prefect-port are both {mlflow_port}; choose two ports.")
    home = Home.find()
    prepare(home.prefect)
    from pipeline.tracking.mlflow_server import Server

    Server(home.path, None).answers()  # sets up a new database
    database = home.path / "mlflow" / "mlflow.db"
    bin_ = os.path.dirname(sys.executable)  # noqa: PTH120 - not resolved: a virtual environment's links matter
    commands = {
        f"http://{HOST}:{mlflow_port}": [
            f"{bin_}/mlflow", "server", "--backend-store-uri", f"sqlite:///{database}",
            "--default-artifact-root", str(home.path / "mlflow" / "artifacts"),
            "--host", HOST, "--port", str(mlflow_port),
        ],
        f"http://{HOST}:{prefect_port}": [
            f"{bin_}/prefect", "server", "start", "--host", HOST, "--port", str(prefect_port),
        ],
    }  # fmt: skip
    console = new_console()
    log = (home.path / "ui.log").open("ab")
    # Prefect's UI uses port 4200 unless this is set.
    environment = {**os.environ, "PREFECT_UI_API_URL": f"http://{HOST}:{prefect_port}/api"}
    processes = {
        url: subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        for url, command in commands.items()
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name, (url, process) in zip(("MLflow ", "Prefect"), processes.items(), strict=True):
            _wait(url, process, str(home.path / "ui.log"))
            console.print(f"{name}  {url}{PAGES[name]}")
        console.print("Ctrl-C stops both.")
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
    finally:
        for process in processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes.values():
            process.wait(timeout=20)
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UserError(f"the server for {url} ended at once; is the port taken? Its log is {log}.")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=2)
            return
        time.sleep(0.3)
    raise UserError(f"nothing answers at {url} after {START_SECONDS} s; see {log}.")
