"""Ctrl-C and SIGTERM end a run so that everything is recorded and nothing is left running.

    the first signal     a training finishes its step and writes a checkpoint; anything else is ended where it is
    one more             ends a training where it is, too

A training that does not stop within its limit is ended as by one more.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from training.monitor import stopping

# Whether SIGTERM came. An exception of its own would not tell: libraries catch what interrupts them and raise another.
terminated = threading.Event()


@contextlib.contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Inside, in the main thread, SIGINT and SIGTERM stop a training, or raise KeyboardInterrupt where there is none.

    Elsewhere nothing changes, and a signal that is ignored stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if number == signal.SIGTERM:
            terminated.set()
        if not stopping.ask(number):
            raise KeyboardInterrupt

    unheard = (signal.SIG_IGN, None)  # None: somebody else's handler, in C
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) not in unheard]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
