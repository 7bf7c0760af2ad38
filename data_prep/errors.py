"""The exception that is shown to users as a message instead of a traceback."""

from __future__ import annotations

import errno

from data_prep.legible import masked

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


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
