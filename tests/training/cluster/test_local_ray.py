"""A Ray of one's own: where its files go, and what is said where it does not start."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from data_prep.errors import UserError
from training.cluster import local_ray


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what Ray is started, in place of starting it; and what the environment and the token are by then."""
    settings: list[dict[str, Any]] = []

    def init(**given: Any) -> None:
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        seen = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        settings.append({**given, **seen, "token": token, "secret": token.read_text()})

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return settings


def test_ray_is_alone_with_a_token_of_its_own(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {"RAY_TMPDIR": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "the cluster's"}
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        for _ in range(2):
            local_ray.start(3)
            [folder] = tmp_path.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE(started[-1]["token"].stat().st_mode) == 0o600
            local_ray.stop()
            assert list(tmp_path.iterdir()) == []
    finally:
        os.umask(before)
    first, second = started
    assert first["secret"] != second["secret"]
    for settings in started:
        assert settings["_node_ip_address"] == "127.0.0.1" and settings["num_cpus"] >= 3
        assert Path(settings["_temp_dir"]).parent == settings["token"].parent
        assert (settings["RAY_AUTH_MODE"], settings["RAY_AUTH_TOKEN"]) == ("token", None)
    assert {name: os.environ[name] for name in users} == users
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.mark.parametrize("length", [5, 28, 29, 60])
def test_folders_of_temporary_files_with_long_names_are_not_used(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    folder = "/" + "t" * (length - 1)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: folder)
    root = local_ray._root()
    longest = f"{root}/{local_ray.PREFIX}{local_ray.SOCKET}"
    assert str(root) == (folder if len(f"{folder}/{local_ray.PREFIX}{local_ray.SOCKET}") <= 107 else "/tmp")
    assert len(longest) <= local_ray.SOCKET_BYTES


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: '/a/long/folder'"), "set RAY_TMPDIR to a shorter one"),
        (PermissionError(13, "Permission denied", "/tmp"), "set RAY_TMPDIR to a folder that this user may write to"),
        (OSError("something else"), "set placement.workers to 1 to train without it"),
    ],
)
def test_a_ray_that_does_not_start_here_says_why_and_leaves_nothing(
    error: OSError, advice: str, started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**settings: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match=f"Ray does not start on this machine .*{advice}") as caught:
        local_ray.start(2)
    assert str(error) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_logs_are_kept_in_place_of_older_ones(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "files"))
    kept = tmp_path / "kept"
    local_ray.keep_logs(kept)
    assert not kept.exists()  # Ray does not run
    for text in ("first", "second"):
        local_ray.start(1)
        logs = Path(started[-1]["_temp_dir"]) / "session_latest" / "logs"
        logs.mkdir(parents=True)
        (logs / f"{text}.log").write_text(text)
        local_ray.keep_logs(kept)
        local_ray.stop()
        assert [path.name for path in kept.iterdir()] == [f"{text}.log"]
