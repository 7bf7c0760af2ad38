"""Ctrl-C and SIGTERM end a run cleanly: everything is recorded and nothing is left running.

    the first signal     training finishes its step and writes a checkpoint; anything else ends at once
    a second signal      training ends at once, too

Training that does not stop within its time limit ends as by a second signal.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from training.monitor import stopping

# Whether SIGTERM was received. An exception type would not do: libraries catch interrupts and raise their own.
terminated = threading.Event()


@contextlib.contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Inside the block, SIGINT and SIGTERM stop training, or raise KeyboardInterrupt where none is running.

    Only in the main thread; a signal that is ignored stays ignored.
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
