"""Our files are closed to other users of the machine: files are 0600 and folders 0700, whatever the umask was.

Who shares a home or a store on purpose says so by `SESAME_UMASK`: 027 lets the group read, 007 lets it write, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_prep.errors import UserError

VARIABLE = "SESAME_UMASK"
CLOSED = 0o077
OTHERS = 0o077  # bits of a mode that are not the owner's
LOCK = "lock"  # of a private folder

log = logging.getLogger("sesame")
_said: set[Path] = set()


def umask() -> int:
    """Bits of modes that nothing gets: those of `SESAME_UMASK`, by default all of group and others.

    Raises UserError for a value that is no umask, or that closes files to their owner.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return CLOSED
    if not re.fullmatch("0?o?0*[0-7]{1,2}", given):
        raise UserError(f"{VARIABLE} is {given!r}; allowed: an octal umask that leaves the owner's rights, 077 or 027")
    return int(given.replace("o", ""), 8)


def close_files() -> None:
    """From here on, what this process and those that it starts make is closed."""
    os.umask(umask())


def open_to_sharers(folder: Path) -> None:
    """Open a folder that was made for temporary use, and now stays, to those whom `umask` lets in."""
    folder.chmod(0o777 & ~umask())


def close_folder(folder: Path, inside: Iterable[str] = ()) -> None:
    """Take from a folder that is there the rights of others that `umask` does not give, and say so.

    inside: names of files in it, whose rights are taken, too. A folder that belongs to somebody else, or whose files
    belong to its group (set-group-ID), is shared on purpose: this is reported, and nothing is changed.
    """
    try:
        status = folder.lstat()
    except OSError:  # missing, or not readable by this user: its users will report that
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode) or not mode & umask() or folder in _said:
        return
    _said.add(folder)
    keep = f"set {VARIABLE} to {~mode & OTHERS:03o} if that is meant"
    if status.st_uid != os.geteuid():
        log.warning(
            "%s is open to other users of this machine (%04o) and belongs to user %d, who can close it; %s.",
            folder, mode, status.st_uid, keep,
        )  # fmt: skip
    elif mode & stat.S_ISGID:
        log.warning(
            "%s is open to other users of this machine (%04o) and shared by its group; %s, or close it.",
            folder, mode, keep,
        )  # fmt: skip
    else:
        for path in (folder, *(folder / name for name in inside)):
            with contextlib.suppress(FileNotFoundError):
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~umask())
        log.warning("%s was open to other users of this machine (%04o) and is closed now; %s.", folder, mode, keep)


@contextlib.contextmanager
def own_folder(root: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `root` for this user only, removed afterwards; those that killed processes left are removed now.

    A process holds a lock on its folder while it lives. Raises OSError if `root` cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    for abandoned in root.glob(f"{prefix}*"):
        _remove_if_abandoned(abandoned)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    """Files of others, which may be a trap, are not touched."""
    with contextlib.suppress(OSError):  # at work, just being made or removed, or somebody else's
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
