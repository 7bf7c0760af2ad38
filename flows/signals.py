"""SIGTERM ends a run the way Ctrl-C does, so that everything is recorded and nothing is left running."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

# Whether SIGTERM came. An exception of its own would not tell: libraries catch what interrupts them and raise another.
terminated = threading.Event()


@contextlib.contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Inside, in the main thread, SIGTERM raises KeyboardInterrupt; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        terminated.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
