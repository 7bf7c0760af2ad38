"""What is made is closed to other users of the machine, unless whoever makes it says otherwise."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import private
from data_prep.errors import UserError

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_said", set())
    monkeypatch.delenv(private.VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("given", "closed"),
    [(None, 0o077), ("", 0o077), ("077", 0o077), ("0027", 0o027), ("7", 0o007), ("0o27", 0o027), ("000", 0)],
)
def test_a_umask_is_octal(given: str | None, closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is not None:
        monkeypatch.setenv(private.VARIABLE, given)
    assert private.umask() == closed


@pytest.mark.parametrize("given", ["group", "778", "0x1f", "777", "0177", "-27", "27 27", "u=rwx", "oo7", "0.7"])
def test_another_umask_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(private.VARIABLE, given)
    with pytest.raises(UserError, match=f"{private.VARIABLE} is '{given}'; allowed: an octal umask"):
        private.umask()


@given(st.integers(0, 0o77), st.integers(0, 0o77))
def test_a_folder_loses_the_rights_that_the_umask_does_not_give(
    tmp_path_factory: pytest.TempPathFactory, rights: int, umask: int
) -> None:
    folder = tmp_path_factory.mktemp("home")
    (folder / "database").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(private.VARIABLE, f"{umask:03o}")
        for path in (folder, folder / "database"):
            path.chmod(0o700 | rights)
        private.close_folder(folder, ["database", "none"])
    assert mode(folder) == 0o700 | rights & ~umask
    assert mode(folder / "database") == mode(folder) if rights & umask else 0o700 | rights


def test_closing_is_said_once_with_how_to_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o755)
    for _ in range(2):
        private.close_folder(tmp_path)
    [message] = caplog.messages
    assert message == (
        f"{tmp_path} was open to other users of this machine (0755) and is closed now; "
        f"set {private.VARIABLE} to 022 if that is meant."
    )
    private.close_folder(tmp_path)
    assert len(caplog.messages) == 1


def test_what_a_group_shares_is_said_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o2770)
    private.close_folder(tmp_path)
    assert mode(tmp_path) == 0o2770
    assert "shared by its group; set SESAME_UMASK to 007 if that is meant" in caplog.text


def test_what_is_declared_is_not_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(private.VARIABLE, "027")
    tmp_path.chmod(0o750)
    private.close_folder(tmp_path)
    assert mode(tmp_path) == 0o750 and not caplog.messages


def test_what_is_a_link_or_is_not_there_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "there").mkdir(0o755)
    (tmp_path / "there").chmod(0o755)
    (tmp_path / "link").symlink_to("there")
    private.close_folder(tmp_path / "link")
    private.close_folder(tmp_path / "none")
    assert mode(tmp_path / "there") == 0o755 and not caplog.messages


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_belongs_to_somebody_else_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o755)
    os.chown(folder, NOBODY, -1)
    private.close_folder(folder)
    assert mode(folder) == 0o755
    assert f"belongs to user {NOBODY}, who can close it" in caplog.text


@pytest.mark.parametrize("umask", ["077", "027", "007"])
def test_a_folder_that_stays_is_open_to_those_who_share(
    umask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(private.VARIABLE, umask)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    private.open_to_sharers(folder)
    assert mode(folder) == 0o777 & ~int(umask, 8)


def test_a_folder_of_ones_own_is_gone_afterwards(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), private.own_folder(tmp_path / "new", "own-") as folder:
        assert mode(folder) == 0o700
        raise ZeroDivisionError
    assert list((tmp_path / "new").iterdir()) == []


def test_folders_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from data_prep import private\n"
        "with private.own_folder(pathlib.Path(sys.argv[1]), 'own-') as folder:\n"
        "    print(folder, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    killed = Path(done.stdout.strip())
    assert killed.is_dir()
    with private.own_folder(tmp_path, "own-") as first:
        assert not killed.exists()
        with private.own_folder(tmp_path, "own-"):
            assert first.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to another user")
def test_a_trap_of_another_user_is_left_alone(tmp_path: Path) -> None:
    trap, precious = tmp_path / "own-trap", tmp_path / "precious"
    precious.write_text("mine")
    trap.mkdir()
    (trap / private.LOCK).symlink_to(precious)
    os.chown(trap, NOBODY, -1)
    with precious.open() as held, private.own_folder(tmp_path, "own-"):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert trap.is_dir() and precious.read_text() == "mine"


# -- other users ------------------------------------------------------------------------------------------------------


def as_nobody(code: str, *arguments: str) -> str:
    """What a program prints that another user runs."""
    become = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    done = subprocess.run(
        [sys.executable, "-c", become + code, *arguments], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
def test_another_user_sees_nothing_of_a_folder_that_was_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    look = "import sys, os\ntry: print(os.listdir(sys.argv[1]), open(sys.argv[1] + '/file').read())\n"
    look += "except PermissionError: print('refused')"
    folder = Path("/tmp") / f"sesame-test-{os.getpid()}"
    folder.mkdir(0o755)
    try:
        folder.chmod(0o755)
        (folder / "file").write_text("secret")
        (folder / "file").chmod(0o644)
        assert "secret" in as_nobody(look, str(folder))
        private.close_folder(folder)
        assert as_nobody(look, str(folder)).strip() == "refused"
    finally:
        (folder / "file").unlink()
        folder.rmdir()
