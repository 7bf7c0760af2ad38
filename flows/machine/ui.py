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
from urllib.parse import urlencode

from data_prep.errors import UserError
from flows.machine import password, serve
from flows.machine.environment import prepare
from flows.machine.guard import PARAMETER
from pipeline.home import Home

HOST = "127.0.0.1"
START_SECONDS = 120
PAGES = {"mlflow": ("/", "#/experiments?workflowType=machine_learning"), "prefect": ("/runs", "")}  # where our runs are
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}


def run(mlflow_port: int, prefect_port: int) -> None:
    """Start both servers, print links to them, and stop them on Ctrl-C or SIGTERM. UserError for equal ports."""
    if mlflow_port == prefect_port:
        raise UserError(f"--mlflow-port and --prefect-port are both {mlflow_port}; choose two ports.")
    home = Home.find()
    prepare(home.prefect)
    secret = password.of(home.servers)
    ports = {"mlflow": mlflow_port, "prefect": prefect_port}
    commands = {
        name: [sys.executable, "-m", "flows.machine.serve", name, "--host", HOST, "--port", str(port)]
        for name, port in ports.items()
    }
    commands["mlflow"].append("--direct")
    log = home.path / "ui.log"
    with log.open("ab") as output:
        processes = {
            name: subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            for name, command in commands.items()
        }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name, process in processes.items():
            url = serve.address(HOST, ports[name])
            _wait(f"{url}{HEALTH[name]}", process, str(log))
            path, place = PAGES[name]
            # Only here is the password shown, so not by a console, which masks it.
            print(f"{serve.NAMES[name]:7}  {url}{path}?{urlencode({PARAMETER: secret})}{place}", flush=True)
        print("The links hold this home's password: they are for you alone. Ctrl-C stops both servers.", flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
    finally:
        for process in processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes.values():
            process.wait(timeout=20)


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
