"""Calls a function on one document in another process, which is ended if the document takes too long.

Parsers of markup are libraries in C, which no signal interrupts, and whose work may grow with the square of what they
are given. The limit is in seconds of the processor, so that it depends on the document and not on what else a machine
does; on the clock, PATIENCE times as many must pass. The process is started with the first document and serves the
next ones; a call takes a tenth of a millisecond.
"""

from __future__ import annotations

import atexit
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO, TypeVar, cast

PATIENCE = 10
LONG = 10_000  # characters of a text that may take seconds
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 0)
_MAX_MEMORY = 8 << 30  # bytes of data of the process
_SIZE = struct.Struct("<Q")
R = TypeVar("R")


class TooMuchError(Exception):
    """A document took too long, or ended its parser; the message is the reason of the reject."""


def call(function: Callable[..., R], *arguments: Any, seconds: int | None, what: str = "") -> R:
    """`function(*arguments)`, a function of a module; raises what it raises, and TooMuchError beyond the limit.

    seconds: of the processor; None: no limit, and the call is made here. what: what it does, for the message.
    """
    if seconds is None:
        return function(*arguments)
    request = pickle.dumps((function.__module__, function.__name__, arguments, seconds), pickle.HIGHEST_PROTOCOL)
    with _LOCK:
        answer, ended_by = _asked(request, seconds)
        if ended_by in _FROM_OUTSIDE:
            answer, ended_by = _asked(request, seconds)
    if answer is None:
        subject = f"{what} " if what else ""
        if ended_by in (None, -signal.SIGXCPU):
            raise TooMuchError(f"{subject}takes more than {seconds} seconds of processing")
        raise TooMuchError(f"{subject}ends its {'process' if what else 'parser'} ({_name_of(ended_by)})")
    is_result, value = answer
    if is_result:
        return value
    raise value


def _asked(request: bytes, seconds: int) -> tuple[tuple[bool, Any] | None, int | None]:
    """The helper's answer; or None, and how the helper ended, which is None if we ended it."""
    helper = _helper()
    try:
        helper.send(request)
        answer = helper.answer(seconds * PATIENCE)
    except BrokenPipeError:
        answer = None
    except BaseException:  # an interrupt: the answer that is still to come belongs to nobody
        helper.end()
        raise
    return answer, helper.end() if answer is None else None


def _name_of(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Helper:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "data_prep.text.bounded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: bytes) -> None:
        stream = cast(BinaryIO, self._process.stdin)
        stream.write(_SIZE.pack(len(request)))
        stream.write(request)
        stream.flush()

    def answer(self, seconds: float) -> tuple[bool, Any] | None:
        """The answer; None if the process ended, or the time is over."""
        stream = cast(BinaryIO, self._process.stdout)
        if not select.select([stream], [], [], seconds)[0]:
            return None
        head = stream.read(_SIZE.size)
        if len(head) < _SIZE.size:
            return None
        (size,) = _SIZE.unpack(head)
        body = stream.read(size)
        return pickle.loads(body) if len(body) == size else None

    def end(self) -> int | None:
        """End the process; returns how it ended by itself, or None."""
        with suppress(BrokenPipeError):  # what was not sent
            cast(BinaryIO, self._process.stdin).close()
        try:
            ended_by = self._process.wait(1)
        except subprocess.TimeoutExpired:
            ended_by = None
            self._process.kill()
            self._process.wait()
        cast(BinaryIO, self._process.stdout).close()
        return ended_by


_LOCK = threading.Lock()
_HELPERS: list[_Helper] = []


def _helper() -> _Helper:
    """The helper of this process."""
    for helper in _HELPERS:
        if helper.owner == os.getpid() and helper.is_alive:
            return helper
    _HELPERS[:] = [_Helper()]
    atexit.register(_end_all)
    return _HELPERS[0]


def _end_all() -> None:
    for helper in _HELPERS:
        if helper.owner == os.getpid():
            helper.end()
    _HELPERS.clear()


def _serve() -> None:
    """Answer calls until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not be read as an answer
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    _, hardest = resource.getrlimit(resource.RLIMIT_CPU)
    while head := requests.read(_SIZE.size):
        (size,) = _SIZE.unpack(head)
        module, name, arguments, seconds = pickle.loads(requests.read(size))
        function = getattr(import_module(module), name)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hardest))
        try:
            answer = pickle.dumps((True, function(*arguments)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            answer = _failure(error)
        answers.write(_SIZE.pack(len(answer)))
        answers.write(answer)
        answers.flush()


def _failure(error: Exception) -> bytes:
    try:
        pickle.loads(pickle.dumps((False, error)))
        return pickle.dumps((False, error))
    except Exception:  # an exception that cannot be sent
        return pickle.dumps((False, ValueError(f"{type(error).__name__}: {error}")))


if __name__ == "__main__":
    _serve()
