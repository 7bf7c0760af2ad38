"""The password of a folder's servers: made once, readable only by its owner, known to the owner's own processes."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from data_prep import private
from data_prep.errors import UserError

USER = "sesame"  # clients must give a name, too; any is accepted
VARIABLE = "SESAME_PASSWORD"
FILE = "password"
GROUP = 0o070


def of(folder: Path) -> str:
    """SESAME_PASSWORD, or what the file `password` in `folder` holds; it is made if it is missing.

    Raises UserError if somebody else may read or write the file (of a shared home: if SESAME_UMASK does not let them),
    or if it is empty.
    """
    if given := os.environ.get(VARIABLE):
        return given
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _make(path)
    facts, closed = path.stat(), private.umask()
    is_shared = closed & GROUP != GROUP
    if (facts.st_uid != os.geteuid() and not is_shared) or stat.S_IMODE(facts.st_mode) & (closed | 0o007):
        raise UserError(f"{path}: others may have read this password; delete the file, and a new one is made.")
    password = path.read_text(encoding="ascii").strip()
    if not password:
        raise UserError(f"{path}: holds no password; delete the file, and a new one is made.")
    return password


def _make(path: Path) -> None:
    """Write a new password, unless another process is faster: the file is whole or absent."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660 & ~private.umask())
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
