"""Work in a forked process, which may die of it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 120.0


@dataclass
class Ended:
    """How a forked process ended: what it reported, and its signal, exception or neither."""

    reported: dict[str, Any] = field(default_factory=dict)
    signal: int = 0
    seconds: float = 0.0

    @property
    def error(self) -> str:
        return self.reported.get("error", "")

    @property
    def succeeded(self) -> bool:
        return not self.signal and not self.error


def forked(work: Callable[[Callable[..., None]], Any], log: Path, kill_after: float | None = None) -> Ended:
    """Do `work(tell)` in a forked process; `tell(name=value)` reaches us whatever happens afterwards.

    `kill_after`: seconds after which it is killed. What it prints goes to `log`. A process that hangs is ended by
    SIGALRM, which nothing here catches.
    """
    began = time.monotonic()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        _begin(log)

        def tell(**values: Any) -> None:
            os.write(into, json.dumps(values).encode() + b"\n")

        try:
            work(tell)
        except BaseException as error:
            traceback.print_exc()
            tell(error=f"{type(error).__name__}: {error}"[:400])
        finally:
            os._exit(0)
    os.close(into)
    data, ended = b"", Ended()
    while True:
        left = None if kill_after is None else max(0.0, began + kill_after - time.monotonic())
        ready, _, _ = select.select([out], [], [], left)
        if not ready:
            os.kill(child, signal.SIGKILL)
            kill_after = None
            continue
        chunk = os.read(out, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(out)
    ended.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status := os.waitpid(child, 0)[1]) else 0
    for line in data.splitlines():
        ended.reported |= json.loads(line)
    ended.seconds = time.monotonic() - began
    return ended


def _begin(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
