"""One Prefect, and a runner of tiny flows that tells it of them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.flows.runner import Runner


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect that is gone when the tests are over."""
    from flows.machine import prefect_server
    from tests.flows.machine.test_prefect_server import gone

    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch, (folder / "users.lock").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        patch.setenv("PREFECT_HOME", str(folder))
        url = f"http://127.0.0.1:{prefect_server._start(folder)}/api"
        patch.setenv("PREFECT_API_URL", url)
        patch.setattr(prefect_server, "ANSWER_SECONDS", prefect_server.START_SECONDS)
        prefect_server.wait(folder)
        patch.undo()
        yield url
    assert gone(folder)


@pytest.fixture
def runner(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """With a home of its own."""
    from tests.flows.runner import Runner

    return Runner(tmp_path / "runner", server, monkeypatch)
