"""One Prefect, and a runner of tiny flows that tells it of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.folders import shared

if TYPE_CHECKING:
    from tests.flows.runner import Runner


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect that all test processes share, and that is gone when their tests are over.

    Its password stays in PREFECT_API_AUTH_STRING, where clients look for it.
    """
    from flows.machine import prefect_server
    from tests.flows.machine.test_prefect_server import gone

    folder = shared(tmp_path_factory) / "prefect"
    with pytest.MonkeyPatch.context() as patch:
        users: list[IO[bytes]] = []
        patch.setenv("PREFECT_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("PREFECT_API_AUTH_STRING", raising=False)
        patch.setattr(prefect_server, "_held", users)
        patch.setattr(prefect_server, "_keep_alive", lambda folder: None)
        prefect_server.begin(folder)
        url = os.environ.pop("PREFECT_API_URL")
        patch.setenv("PREFECT_API_URL", url)
        prefect_server.wait(folder)
        auth = os.environ["PREFECT_API_AUTH_STRING"]
        patch.undo()
        patch.setenv("PREFECT_API_AUTH_STRING", auth)
        yield url
    users[0].close()
    with (folder / "users.lock").open("ab") as last, contextlib.suppress(BlockingIOError):
        fcntl.flock(last, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else uses it
        last.close()
        assert gone(folder)


@pytest.fixture
def runner(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """With a home of its own."""
    from tests.flows.runner import Runner

    return Runner(tmp_path / "runner", server, monkeypatch)
