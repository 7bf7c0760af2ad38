"""The one exception that a person sees as a sentence instead of a traceback."""

from __future__ import annotations

import errno

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class UserError(Exception):
    """Something a user can cause and can mend.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it alone;
    any other exception is a bug of ours and keeps its traceback.
    """


def refusal_of_the_disk(error: BaseException) -> str | None:
    """A sentence for a disk that is full or may not be written to, if that is what `error` says."""
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
