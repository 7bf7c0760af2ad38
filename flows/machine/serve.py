"""Prefect's or MLflow's server of a home, behind a guard.

    python -m flows.machine.serve prefect|mlflow [--host HOST] [--port PORT] …

The password is SESAME_PASSWORD, or in SESAME_HOME/servers/password; SESAME_ALLOWED_HOSTS lists further names of the
server, with commas. A running server is noted next to the password, so that processes of this home know it as theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from flows.machine import password
from flows.machine.environment import prepare
from flows.machine.guard import Guard
from pipeline.home import Home

NAMES = {"prefect": "Prefect", "mlflow": "MLflow"}
PORTS = {"prefect": 4200, "mlflow": 5000}
ENDING_SECONDS = 5  # for requests that are being answered when the server is to end
EVERYWHERE = ("0.0.0.0", "::")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=NAMES)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, help="4200 for Prefect, 5000 for MLflow")
    parser.add_argument("--page", help="where a browser reaches Prefect (default: http://HOST:PORT)")
    parser.add_argument("--artifacts", help="MLflow's folder of files, or s3://… (default: in the home)")
    parser.add_argument(
        "--direct", action="store_true", help="MLflow's clients write files into the folder themselves: one machine"
    )
    options = parser.parse_args(arguments)
    port = options.port or PORTS[options.server]
    home = Home.find()
    prepare(home.prefect)
    secret = password.of(home.servers)
    if options.server == "prefect":
        app, more = _prefect(options.page or address(options.host, port))
    else:
        app, more = _mlflow(home, options.artifacts, options.direct), {}
    hosts = [name.strip() for name in os.environ.get("SESAME_ALLOWED_HOSTS", "").split(",") if name.strip()]
    if options.host not in EVERYWHERE:
        hosts += [options.host, f"{options.host}:*"]
    guard = Guard(app, secret, NAMES[options.server], hosts, f"{options.server}-{port}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it again when it has ended
    with _noted(home.servers / f"{options.server}-{port}.json", address(options.host, port)):
        run(guard, options.host, port, **more)


def run(app: Any, host: str, port: int, **more: Any) -> None:
    """Serve until a signal. Requests are not logged: links hold the password."""
    import uvicorn

    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=ENDING_SECONDS, server_header=False, **more,
    )  # fmt: skip


def address(host: str, port: int) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    reached = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{reached}:{port}"


def _prefect(page: str) -> tuple[Any, dict[str, Any]]:
    if os.environ.pop("PREFECT_SERVER_API_AUTH_STRING", None):
        raise UserError(f"PREFECT_SERVER_API_AUTH_STRING is set; set {password.VARIABLE} to the password instead.")
    os.environ["PREFECT_UI_API_URL"] = f"{page}/api"
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = page
    from prefect.server.api.server import create_app
    from prefect.settings import (
        PREFECT_SERVER_API_KEEPALIVE_TIMEOUT,
        PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL,
        PREFECT_SERVER_API_WEBSOCKET_PING_TIMEOUT,
    )

    return create_app(final=True), {
        "timeout_keep_alive": PREFECT_SERVER_API_KEEPALIVE_TIMEOUT.value(),
        "ws_ping_interval": PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL.value(),
        "ws_ping_timeout": PREFECT_SERVER_API_WEBSOCKET_PING_TIMEOUT.value(),
    }


def _mlflow(home: Home, artifacts: str | None, direct: bool) -> Any:
    from pipeline.tracking import confined, mlflow_server

    database = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    if database is None:
        database = mlflow_server.default_uri(home.path)
        mlflow_server.Server(home.path, None).prepare()
    artifacts = artifacts or str(home.path / "mlflow" / "artifacts")
    return confined.create_app(database, artifacts, **({"default_root": artifacts} if direct else {}))


@contextmanager
def _noted(file: Path, url: str) -> Iterator[None]:
    """Note that this process serves `url`, as long as it does."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"pid": os.getpid(), "url": url}))
    temporary.replace(file)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            file.unlink()


if __name__ == "__main__":
    main()
