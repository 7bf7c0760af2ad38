"""Runs that share a home share one Prefect server, and it does not outlive them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from flows.machine import password, prefect_server, ui
from flows.machine.guard import Guard
from tests.flows.end_to_end.test_quickstart import SESAME
from tests.pipeline import tiny


def servers(folder: Path) -> list[str]:
    """Process ids of the servers over a folder."""
    process = subprocess.run(["pgrep", "-f", f"flows.machine.prefect_server {folder}"], capture_output=True, text=True)
    return process.stdout.split()


def gone(folder: Path, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while servers(folder) and time.monotonic() < until:
        time.sleep(0.1)
    return not servers(folder)


def test_a_server_of_the_users_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    prefect_server.begin(tmp_path / "prefect")
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert not (tmp_path / "prefect").exists()
    monkeypatch.setattr(prefect_server, "ANSWER_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/api does not answer; start it, or unset PREFECT_API_URL"):
        prefect_server.wait(tmp_path / "prefect")


def test_it_listens_on_loopback_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[dict[str, Any]] = []

    class Server:
        def __init__(self, config: Any) -> None:
            served.append(config)

        def run(self) -> None:
            """Serves nothing."""

    fake: dict[str, Any] = {
        "uvicorn": SimpleNamespace(Server=Server, Config=lambda app, **options: {"app": app, **options}),
        "prefect.server.api.server": SimpleNamespace(create_app=lambda **_: "Prefect"),
    }
    for name, module in fake.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(prefect_server, "_stop_when_unused", lambda *_: None)
    prefect_server.serve(tmp_path, 4321)
    assert ip_address(served[0]["host"]).is_loopback and served[0]["port"] == 4321
    assert isinstance(served[0]["app"], Guard)


def test_the_pages_are_served_on_loopback_alone_and_links_let_in(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SESAME_PASSWORD", raising=False)
    started: list[list[str]] = []

    class Process:
        pid = 0

        def __init__(self, command: list[str], **options: Any) -> None:
            started.append(command)

        def poll(self) -> int:
            return 0

        def wait(self, timeout: float) -> None:
            """It has ended."""

    monkeypatch.setattr(ui.subprocess, "Popen", Process)
    monkeypatch.setattr(ui, "_wait", lambda *_: None)
    monkeypatch.setattr(ui.os, "killpg", lambda *_: None)
    monkeypatch.setattr(ui.signal, "signal", lambda *_: None)
    ui.run(5001, 4201)
    assert len(started) == 2
    for command, port in zip(started, ("5001", "4201"), strict=True):
        assert ip_address(command[command.index("--host") + 1]).is_loopback
        assert command[command.index("--port") + 1] == port
    secret = password.of(home / "servers")
    printed = capsys.readouterr().out
    assert f"http://127.0.0.1:5001/?password={secret}#/experiments?workflowType=machine_learning\n" in printed
    assert f"http://127.0.0.1:4201/runs?password={secret}\n" in printed


@pytest.mark.slow
def test_users_share_a_server_that_leaves_with_the_last_of_them(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from flows.machine.environment import prepare;"
        " from flows.machine import prefect_server as s; import os; home = Path(sys.argv[1]);"
        " prepare(home); s.begin(home); s.wait(home);"
        " print(os.environ['PREFECT_API_URL'], flush=True); time.sleep(600)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    users = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    urls = [user.stdout.readline() for user in users if user.stdout]
    assert urls[0] == urls[1] and urls[0].startswith("http://127.0.0.1:")
    assert len(servers(tmp_path)) == 1
    users[0].kill()
    users[0].wait()
    time.sleep(3 * prefect_server.ALONE_SECONDS)
    assert len(servers(tmp_path)) == 1, "one user is left"
    users[1].kill()
    users[1].wait()
    assert gone(tmp_path)
    assert not (tmp_path / "server.json").exists()


@pytest.mark.slow
def test_two_runs_at_once_in_one_fresh_home(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    environment = {**os.environ, "SESAME_HOME": str(tmp_path / "home")}
    both = [
        subprocess.Popen(
            [*SESAME, "run", str(recipe), "--set", f"train.steps={steps}", "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for steps in (8, 9)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    runs = [json.loads(out) for out, _ in outputs]
    assert runs[0]["run_id"] != runs[1]["run_id"]
    pretrained = [run["stages"]["pretrain"]["artifact"] for run in runs]
    assert pretrained[0] != pretrained[1]
    assert runs[0]["stages"]["shards"]["artifact"] == runs[1]["stages"]["shards"]["artifact"]
    assert gone(tmp_path / "home" / "prefect")
