"""Requests to end training at the end of a step, with a checkpoint.

    the handler of a signal        ask(signal): True if training runs in this process and will stop, else False
    the caller of training         with listening(file, grace): …
    its workers, at every step     StopRequest(file)()

Workers may be other processes on other machines, so the request is a file in the folder that all of them share. If
training has not stopped within `grace` seconds, the same signal is raised once more.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOOK_SECONDS = 0.2  # between two checks of the file, which may be on a network's disk

_wishes: list[queue.SimpleQueue[int | None]] = []  # of trainings that run here and were not asked yet; one at most


def ask(number: int) -> bool:
    """Have the training that runs in this process stop. Called by the handler of signal `number`.

    False if there is none, or if it was asked before.
    """
    if not _wishes:
        return False
    _wishes.pop().put(number)  # may be called by a handler at any time, unlike locks and events
    return True


@contextlib.contextmanager
def listening(file: Path, grace: float, notify: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside, in the main thread, `ask` makes `file`, which is removed at the end, and calls `notify` in a thread.

    Raises KeyboardInterrupt at the end if there was a request. In other threads than the main one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    file.unlink(missing_ok=True)
    wish: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    over = threading.Event()
    asked = threading.Event()

    def hear() -> None:
        number = wish.get()
        if number is None:
            return
        asked.set()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        notify()
        if not over.wait(grace):
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    thread = threading.Thread(target=hear, name="stop", daemon=True)
    thread.start()
    _wishes.append(wish)
    try:
        yield
    finally:
        if wish in _wishes:
            _wishes.remove(wish)
        over.set()
        wish.put(None)
        thread.join()
        file.unlink(missing_ok=True)
    if asked.is_set():
        raise KeyboardInterrupt


class StopRequest:
    """Calling it says whether training was asked to stop."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.looked = 0.0
        self.requested = False

    def __call__(self) -> bool:
        if not self.requested and time.monotonic() - self.looked > LOOK_SECONDS:
            self.looked = time.monotonic()
            self.requested = self.file.exists()
        return self.requested
