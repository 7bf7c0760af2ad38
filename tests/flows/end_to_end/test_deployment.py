"""Prefect's page, a deployment and a worker, by the README's own commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.end_to_end.test_quickstart import SESAME, sesame
from tests.flows.runner import basic
from tests.pipeline import tiny
from tests.said import said

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment")


@pytest.fixture(scope="module")
def prefect(place: Path) -> Iterator[str]:
    """`sesame ui`, and the address of Prefect in it."""
    mlflow_port, port = free_port(), free_port()
    page = subprocess.Popen(
        [*SESAME, "ui", "--mlflow-port", str(mlflow_port), "--prefect-port", str(port)],
        env={**os.environ, "SESAME_HOME": str(place / "home")}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert page.stdout
    output = [page.stdout.readline() for _ in range(3)]
    assert f"http://127.0.0.1:{mlflow_port}/" in output[0] and f"http://127.0.0.1:{port}/runs" in output[1], output
    yield f"http://127.0.0.1:{port}"
    page.send_signal(signal.SIGINT)
    page.wait(60)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5)


def test_the_page_asks_its_own_server(prefect: str, place: Path) -> None:
    auth = f"sesame:{(place / 'home' / 'servers' / 'password').read_text()}"
    asked = urllib.request.Request(f"{prefect}/ui-settings", headers={"Authorization": basic(auth)})
    settings = json.load(urllib.request.urlopen(asked, timeout=30))
    assert settings["api_url"] == f"{prefect}/api"


def test_a_deployed_flow_is_carried_out_by_a_worker(prefect: str, place: Path) -> None:
    [block] = re.findall(r"```sh\n(export PREFECT.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = block.strip().splitlines()
    exports, commands = lines[:2], lines[2:]
    assert "PREFECT_API_URL=" in exports[0] and "SESAME_PROJECT=$PWD" in exports[0]
    assert exports[1].startswith("export PREFECT_API_AUTH_STRING=sesame:$(cat .sesame/servers/password)")
    auth = f"sesame:{(place / 'home' / 'servers' / 'password').read_text()}"
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_API_AUTH_STRING": auth,
        "SESAME_PROJECT": str(ROOT),
        "SESAME_HOME": str(place / "home"),
        "PREFECT_HOME": str(place / "prefect"),
    }
    recipe = tiny.recipe(place)
    for command in commands:
        program, *arguments = shlex.split(command.replace("recipe=quickstart", f"recipe={recipe}"))
        once = ["--run-once"] if "worker" in arguments else []
        done = subprocess.run(
            [str(Path(sys.executable).parent / Path(program).name), *arguments, *once],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    until = time.monotonic() + 120
    while "done" not in (output := sesame(place, "runs").stdout) and time.monotonic() < until:
        time.sleep(1)
    assert "done" in output and said("6 of 6", output)
    headers = {"Content-Type": "application/json", "Authorization": basic(auth)}
    asked = urllib.request.Request(f"{prefect}/api/flow_runs/filter", b"{}", headers)
    [run] = json.load(urllib.request.urlopen(asked, timeout=30))
    assert (run["name"], run["state"]["type"]) == (str(recipe), "COMPLETED")
