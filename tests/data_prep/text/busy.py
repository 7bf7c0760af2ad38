"""What a document may do to its parser."""

from __future__ import annotations

import os
import signal
import time
from typing import NoReturn


def compute() -> NoReturn:
    while True:
        pass


def sleep() -> None:
    time.sleep(60)


def end() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail() -> None:
    raise ValueError("a fault of the document")


def own() -> int:
    print("what a library says is no answer")
    return os.getpid()
