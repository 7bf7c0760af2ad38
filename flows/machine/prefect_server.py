"""Prefect's API server of one home, without its UI: one process shared by all runs, which ends with the last of them.

Prefect would start a server inside each run: Ctrl-C in a terminal would end it before the run could report that it was
interrupted, two runs at once would have two servers on one SQLite file, and a killed run would leave its server behind.
This server has its own session, and ends when no run holds the shared lock, which the kernel releases when a process
dies. A server that dies is restarted on the same port. It wants the password that the folder holds.

    python -m flows.machine.prefect_server FOLDER PORT    serves FOLDER's database
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from data_prep.errors import UserError
from flows.machine import password
from flows.machine.guard import Guard

HOST = "127.0.0.1"
START_SECONDS = 180.0  # a fresh database takes ten, on a busy machine a minute
ANSWER_SECONDS = 15.0  # the user's own server should be running already
ALONE_SECONDS = 0.5  # between two checks whether any run is left
KEEP_SECONDS = 1.0  # between two checks whether the server is alive
MOST_STARTS = 5  # restarts of a server that keeps dying, by one run

_held: list[IO[bytes]] = []  # until this process ends


def begin(folder: Path) -> None:
    """Start a server for `folder` unless one runs, and set its address and password, unless the user has set one."""
    if os.environ.get("PREFECT_API_URL"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    users = (folder / "users.lock").open("ab")
    fcntl.flock(users, fcntl.LOCK_SH)
    _held.append(users)
    with (folder / "start.lock").open("ab") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        port = _running(folder) or _start(folder)
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    os.environ["PREFECT_API_AUTH_STRING"] = f"{password.USER}:{password.of(folder)}"


def _keep_alive(folder: Path) -> None:
    """Restart the server of this home if it dies."""
    starts = 0
    while starts < MOST_STARTS:
        time.sleep(KEEP_SECONDS)
        if _running(folder) is None:
            starts += 1
            with contextlib.suppress(OSError), (folder / "start.lock").open("ab") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                if _running(folder) is None:
                    _start(folder)


def wait(folder: Path) -> None:
    """Wait until the server in PREFECT_API_URL answers, and keep it alive if it is ours. UserError if it does not."""
    url, until = os.environ["PREFECT_API_URL"], time.monotonic() + (START_SECONDS if _held else ANSWER_SECONDS)
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5)
            if _held:
                threading.Thread(target=_keep_alive, args=(folder,), name="keep Prefect", daemon=True).start()
            return
        if _held and not _running(folder):
            raise UserError(f"Prefect's server ended as it started; its log is {folder / 'server.log'}.")
        time.sleep(0.05)
    raise UserError(f"Prefect's server at {url} does not answer; start it, or unset PREFECT_API_URL.")


def _running(folder: Path) -> int | None:
    """The port of the server that was started last, if its process is alive."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        record = json.loads((folder / "server.json").read_text())
        os.kill(record["pid"], 0)
        return record["port"]
    return None


def _free_port(folder: Path) -> int:
    """The port of a server that died, which runs may still use, or any free one."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        port = json.loads((folder / "server.json").read_text())["port"]
        socket.create_server((HOST, port)).close()
        return port
    with socket.create_server((HOST, 0)) as free:
        return free.getsockname()[1]


def _start(folder: Path) -> int:
    port = _free_port(folder)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.machine.prefect_server", str(folder), str(port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    threading.Thread(
        target=process.wait, daemon=True
    ).start()  # a dead server must not remain a zombie, which looks alive
    temporary = folder / ".server.json"
    temporary.write_text(json.dumps({"pid": process.pid, "port": port}))
    temporary.replace(folder / "server.json")
    return port


def serve(folder: Path, port: int) -> None:
    """Serve until no run uses the server."""
    os.environ.pop("PREFECT_SERVER_API_AUTH_STRING", None)  # of another server; the guard of this one asks
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = f"http://{HOST}:{port}"
    import uvicorn
    from prefect.server.api.server import create_app

    app = Guard(create_app(ephemeral=True, final=True), password.of(folder), "Prefect")
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="error", server_header=False))
    threading.Thread(target=_stop_when_unused, args=(folder, server), daemon=True).start()
    server.run()


def _stop_when_unused(folder: Path, server: object) -> None:
    with (folder / "users.lock").open("ab") as users:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A run that starts now waits for the lock, then finds no server and starts one.
                (folder / "server.json").unlink(missing_ok=True)
                server.should_exit = True  # type: ignore[attr-defined]
                return
            time.sleep(ALONE_SECONDS)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
