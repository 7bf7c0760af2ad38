"""The exception that is shown to users as a message instead of a traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from data_prep.legible import masked

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

MOST_LISTED = 8  # names that a message gives in full where a command lists them, too
_NEAREST = 3


class UserError(Exception):
    """An error that a user can cause and can fix.

    Secrets in addresses are masked at once: messages are logged, tracked and stored, too.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints only the
    message; any other exception is a bug in Sesame and keeps its traceback.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(masked(argument) if isinstance(argument, str) else argument for argument in arguments))


def refusal_of_the_disk(error: BaseException) -> str | None:
    """The message if `error` means that a disk is full or not writable, else None."""
    if not isinstance(error, OSError):
        return None
    where = error.filename or "the disk"
    if error.errno in FULL:
        return f"{where}: there is no room to write ({error.strerror}); make some, and `sesame resume last` goes on."
    if error.errno in CLOSED:
        return (
            f"{where}: {error.strerror or 'may not be used'}; let this user write there, or set SESAME_HOME to another "
            "folder."
        )
    return None


def choices(name: object, known: Iterable[str], listed_by: str = "") -> str:
    """The end of a message on a name that is not in `known`: what exists, and what was perhaps meant.

        allowed: adamw, sgd; did you mean adamw?
        did you mean bert, albert or roberta? `sesame recipes` lists all 39

    listed_by: what lists them where they are many, such as a command; without it, the message does.
    """
    known = list(dict.fromkeys(known))
    if not listed_by or len(known) <= MOST_LISTED:
        return "; ".join(filter(None, (f"allowed: {', '.join(known) or 'none'}", meant(name, known))))
    return f"{meant(name, known, _NEAREST)} {listed_by} lists all {len(known)}".strip()


def meant(name: object, known: Iterable[str], most: int = 1) -> str:
    """`did you mean a, b or c?`, the nearest first; nothing if none is near."""
    near = difflib.get_close_matches(str(name), list(known), most)
    return f"did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?" if near else ""
