"""A private Ray on this machine, which nobody else can reach.

    ports    on loopback; there is no process of Ray's pages, which would ask the network in which cloud it is
    token    a new one every time, in the folder below
    files    in a folder that is closed to other users and gone at the end; those of killed processes go, too

Ray opens its folders to all users of the machine, so what closes them is the folder around.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep import private
from data_prep.compute import cluster
from data_prep.errors import UserError

PREFIX = "ray-"
TOKEN, FILES = "token", "r"
SOCKET_BYTES = 107  # of a socket's path at most; see unix(7)
SOCKET = "xxxxxxxx/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

_ending = contextlib.ExitStack()  # undoes what `start` did
_folders: list[Path] = []  # of the Ray that runs


def start(workers: int) -> None:
    """Start Ray with room for `workers` of one CPU each. Raises UserError where this machine does not let it."""
    import ray
    from ray._private import ray_constants
    from ray._private.node import Node

    with contextlib.ExitStack() as undo:
        try:
            folder = undo.enter_context(private.own_folder(_root(), PREFIX))
            token = folder / TOKEN
            token.write_text(secrets.token_hex(32))
            undo.enter_context(_only_token(token))
            # Else Ray puts the address of another interface in place of loopback's, for machines that might join.
            undo.enter_context(_variables({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}))
            undo.enter_context(_instead(ray_constants, "ENABLE_RAY_CLUSTER", False))
            undo.callback(ray.shutdown)
            with cluster.quietly(), _instead(Node, "start_api_server", _no_pages):
                ray.init(
                    address="local",
                    num_cpus=max(os.cpu_count() or 1, workers),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    _node_ip_address=_core().get_localhost_ip(),
                    _temp_dir=str(folder / FILES),
                )
        except OSError as error:
            raise UserError(_why_not(error)) from error
        undo.callback(_folders.clear)
        _folders.append(folder)
        _ending.push(undo.pop_all())


def stop() -> None:
    """End the Ray that runs here, or leave the cluster that was joined."""
    _ending.close()
    ray = sys.modules.get("ray")  # not imported for this: a signal may have come while it was
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def keep_logs(to: Path) -> None:
    """Copy the logs of the Ray that runs here, in place of those that are there. Nothing for a cluster that was joined.

    What cannot be copied is not worth an error of its own.
    """
    for folder in _folders:
        shutil.rmtree(to, ignore_errors=True)
        with contextlib.suppress(OSError):
            shutil.copytree(folder / FILES / "session_latest" / "logs", to, symlinks=True)


def _root() -> Path:
    """Where temporary files go; `/tmp` where that is too long a name for the sockets in it."""
    if given := os.environ.get("RAY_TMPDIR"):
        return Path(given)
    folder = Path(tempfile.gettempdir())
    return folder if len(os.fsencode(folder / f"{PREFIX}{SOCKET}")) <= SOCKET_BYTES else Path("/tmp")


@contextlib.contextmanager
def _only_token(file: Path) -> Iterator[None]:
    """Inside, Ray uses this token, whatever the environment says; a user's token is for the user's cluster."""
    try:
        with _variables({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file), "RAY_AUTH_TOKEN": None}):
            read_token_again()
            yield
    finally:
        read_token_again()


def read_token_again() -> None:
    """Have Ray's core look at the variables of tokens, which it did when it was imported."""
    _core().Config.initialize("")
    _core().AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Inside, the environment has these variables (None: not), for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}

    def put(variables: Mapping[str, str | None]) -> None:
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    put(values)
    try:
        yield
    finally:
        put(before)


@contextlib.contextmanager
def _instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, a name of Ray's means something else: what it has no setting for."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _core() -> Any:
    return importlib.import_module("ray._raylet")  # compiled: its names are known when it is there


def _no_pages(node: Any, **settings: Any) -> None:
    """In place of the process that would serve Ray's pages."""


def _why_not(error: OSError) -> str:
    """The sentence for a Ray that does not start on this machine."""
    advice = "set placement.workers to 1 to train without it"
    if "AF_UNIX" in str(error):
        advice = "its folder of temporary files has too long a name: set RAY_TMPDIR to a shorter one, such as /tmp"
    elif isinstance(error, PermissionError):
        advice = "set RAY_TMPDIR to a folder that this user may write to"
    return f"Ray does not start on this machine ({error}); {advice}."
