"""A home that other users may enter is closed, and what else lies beside our things is left as it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from data_prep import private
from pipeline.home import DATABASES, Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_said", set())
    monkeypatch.delenv(private.VARIABLE, raising=False)


@pytest.fixture
def opened(home: Path) -> Path:
    """The home, as older versions left it."""
    for name in ("runs", "store", "mlflow", "prefect"):
        (home / name).mkdir()
    for name in DATABASES:
        (home / name).touch()
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return home


def test_a_home_that_was_open_is_closed(opened: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Home.find().path == opened
    assert mode(opened) == 0o700
    assert {mode(opened / name) for name in DATABASES} == {0o600}
    assert "was open to other users of this machine (0755) and is closed now" in caplog.text


def test_beside_other_things_only_ours_is_closed(opened: Path) -> None:
    (opened / "thesis.tex").touch()
    (opened / "thesis.tex").chmod(0o644)
    Home.find()
    assert mode(opened) == 0o755 and mode(opened / "thesis.tex") == 0o644
    assert {mode(opened / name) for name in ("runs", "store", "mlflow", "prefect")} == {0o700}


def test_a_home_that_is_shared_stays_so(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(private.VARIABLE, "022")
    Home.find()
    assert mode(opened) == 0o755


def test_no_home_yet_is_none_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "new"))
    Home.find()
    assert not (tmp_path / "new").exists()
