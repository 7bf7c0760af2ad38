"""The one exception that a person sees as a sentence instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something a user can cause and can mend.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it alone;
    any other exception is a bug of ours and keeps its traceback.
    """
