"""The password of a home: who can read it, and to which servers it is sent."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from data_prep.errors import UserError
from flows.machine import access, password

VARIABLES = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME",
             "MLFLOW_TRACKING_PASSWORD", "SESAME_PASSWORD")  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    """A home with two running servers, and one whose process is gone."""
    folder = tmp_path / "servers"
    folder.mkdir(mode=0o700)
    for name, pid, port in (("prefect", os.getpid(), 4200), ("mlflow", os.getpid(), 5000), ("old", 2**22 + 1, 5001)):
        (folder / f"{name}.json").write_text(json.dumps({"pid": pid, "url": f"http://127.0.0.1:{port}"}))
    return folder


def test_it_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        passwords: list[str] = []
        makers = [threading.Thread(target=lambda: passwords.append(password.of(tmp_path / "new"))) for _ in range(8)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
    finally:
        os.umask(before)
    assert len(passwords) == 8 and len(set(passwords)) == 1 and len(passwords[0]) >= 40
    assert password.of(tmp_path / "new") == passwords[0] != password.of(tmp_path / "other")
    file = tmp_path / "new" / "password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["password"]


def test_one_that_others_may_have_read_or_that_is_empty_is_not_used(tmp_path: Path) -> None:
    password.of(tmp_path)
    file = tmp_path / "password"
    for mode in (0o640, 0o604, 0o602, 0o660):
        file.chmod(mode)
        with pytest.raises(UserError, match="others may have read this password; delete the file"):
            password.of(tmp_path)
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no password; delete the file"):
        password.of(tmp_path)


def test_a_home_that_is_shared_shares_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        for umask, mode in (("027", 0o640), ("007", 0o660), ("077", 0o600)):
            monkeypatch.setenv("SESAME_UMASK", umask)
            secret = password.of(tmp_path / umask)
            assert stat.S_IMODE((tmp_path / umask / "password").stat().st_mode) == mode
            assert password.of(tmp_path / umask) == secret
    finally:
        os.umask(before)
    with pytest.raises(UserError, match="others may have read"):
        password.of(tmp_path / "027")


def test_the_users_own_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_PASSWORD", "mine")
    assert password.of(tmp_path / "new") == "mine" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_clients_get_it_for_servers_of_their_home(servers: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://{host}:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}:5000")
    access.lend(servers)
    secret = password.of(servers)
    assert os.environ["PREFECT_API_AUTH_STRING"] == f"sesame:{secret}"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "sesame" and os.environ["MLFLOW_TRACKING_PASSWORD"] == secret


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:5001", "http://127.0.0.1:5002", "http://example.org:5000", "http://example.org", "sqlite:////x.db",
     "http://127.0.0.1:5000@example.org", "http://me:mine@127.0.0.1:5000", "", "http://127.0.0.1:5000.example.org"],
)  # fmt: skip
def test_no_other_server_gets_it(servers: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setenv("PREFECT_API_URL", url)
    access.lend(servers)
    assert not {"PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_USERNAME"} & set(os.environ)
    assert not (servers / "password").exists()


def test_what_the_user_set_stays(servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mine")
    access.lend(servers)
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "mine")


def test_damaged_notes_of_servers_are_no_servers(servers: Path) -> None:
    for number, text in enumerate(("", "[]", "{}", '{"pid": "x", "url": 1}', "\x00")):
        (servers / f"{number}.json").write_text(text)
    assert access.running(servers) == ["http://127.0.0.1:5000", "http://127.0.0.1:4200"]
