"""What the environment says to libraries, and what it cannot do to servers of this machine."""

from __future__ import annotations

import http.server
import os
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.errors import UserError
from flows.machine import ui
from flows.machine.environment import LOOPBACK, QUIET, begin, bypass_proxies, prepare


class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ok)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_proxy_is_not_asked_for_servers_of_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import requests

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # one that was made before knows other proxies
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    bypass_proxies()
    assert urllib.request.urlopen(url, timeout=5).read() == b"here"
    assert requests.get(url, timeout=5).text == httpx.get(url, timeout=5).text == "here"


def test_what_the_user_said_of_proxies_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org, 127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "")
    for _ in range(2):
        bypass_proxies()
        assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1"
        assert os.environ["NO_PROXY"] == ",".join(LOOPBACK)


def test_what_the_user_set_stays_and_the_rest_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*QUIET, "PREFECT_HOME", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    prepare(tmp_path / "home" / "prefect")
    assert {name: os.environ[name] for name in QUIET} == {**QUIET, "TRANSFORMERS_VERBOSITY": "info"}
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "home" / "prefect") and os.environ["no_proxy"]
    assert (tmp_path / "home" / "prefect").is_dir(), "its server does not make it"
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "own"))
    prepare(tmp_path / "other")
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "own")
    assert (tmp_path / "own").is_dir() and not (tmp_path / "other").exists()


def test_two_pages_need_two_ports() -> None:
    with pytest.raises(UserError, match="--mlflow-port and --prefect-port are both 5000; choose two ports"):
        ui.run(5000, 5000)


def test_what_processes_make_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESAME_UMASK", raising=False)
    before = os.umask(0)
    try:
        begin()
        (tmp_path / "file").touch()
        subprocess.run(["mkdir", tmp_path / "folder"], check=True)
        monkeypatch.setenv("SESAME_UMASK", "027")
        begin()
        (tmp_path / "shared").touch()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700, "shared": 0o640}


def test_a_umask_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_UMASK", "group")
    done = subprocess.run([sys.executable, "-m", "flows.cli", "recipes"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("sesame: SESAME_UMASK is 'group'; allowed:") and done.stderr.count("\n") == 1
