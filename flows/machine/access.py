"""The password of a home's own servers, for the clients in this process.

Prefect's and MLflow's clients read names and passwords from the environment, and send them to whatever server is named
there. So the home's password is put there only for a server that a living process of this home serves.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from flows.machine import password


def lend(servers: Path) -> None:
    """Set the passwords for PREFECT_API_URL and MLFLOW_TRACKING_URI, unless the user has set them.

    servers: the home's folder of running servers.
    """
    own = {urlsplit(url).netloc for url in running(servers)}
    environment = os.environ
    if _place("PREFECT_API_URL") in own:
        environment.setdefault("PREFECT_API_AUTH_STRING", f"{password.USER}:{password.of(servers)}")
    if _place("MLFLOW_TRACKING_URI") in own and "MLFLOW_TRACKING_TOKEN" not in environment:
        environment.setdefault("MLFLOW_TRACKING_USERNAME", password.USER)
        environment.setdefault("MLFLOW_TRACKING_PASSWORD", password.of(servers))


def running(servers: Path) -> list[str]:
    """Addresses of the servers of a home whose processes live and are this user's."""
    urls = []
    for file in sorted(servers.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(file.read_text())
            os.kill(record["pid"], 0)  # not permitted for another user's process
            urls.append(record["url"])
    return urls


def _place(variable: str) -> str | None:
    """Host and port of a server, with 127.0.0.1 for localhost; None if there is none, or one with a password."""
    netloc = urlsplit(os.environ.get(variable, "")).netloc
    return netloc.replace("localhost:", "127.0.0.1:") if netloc and "@" not in netloc else None
