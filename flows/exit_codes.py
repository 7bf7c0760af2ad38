"""Exit codes of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_prep.errors import UserError

DONE, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


@contextmanager
def usage() -> Iterator[None]:
    """Inside, what a user got wrong is a wrong use of the command."""
    try:
        yield
    except UserError as error:
        error.exit_code = USAGE  # type: ignore[attr-defined]
        raise
