"""Liveness of attempts: heartbeats, and locks of work folders.

An attempt is live while its process runs. On the machine (and inside the container) that started it, the process table
tells. Elsewhere its heartbeat does, a file that is renewed every minute and trusted for fifteen.

A work folder outlives its attempts, so two attempts at one key would share it: the first locks it, and the other gets a
private one that is removed afterwards.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BEAT_SECONDS = 60.0
GRACE_SECONDS = 15 * 60.0
LIVE_SUFFIX = ".live"
LOCK_SUFFIX = ".lock"
WORK = ".work"

_log = logging.getLogger(__name__)


@cache
def machine() -> str:
    """Host, boot and PID namespace: equal for processes that see each other in the process table."""
    parts = [platform.node()]
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.is_symlink():
        return "/".join([*parts, boot.read_text().strip(), str(namespace.readlink())])
    import psutil

    return "/".join([*parts, str(int(psutil.boot_time()))])


def sign_of_life() -> bytes:
    """A heartbeat of this process."""
    pid = os.getpid()
    record = {"machine": machine(), "pid": pid, "started": _started(pid), "time": time.time()}
    return json.dumps(record, sort_keys=True).encode()


def is_live(data: bytes | None) -> bool:
    """Whether the process of a heartbeat is still running, as far as this machine can tell."""
    if data is None:
        return False
    try:
        record = json.loads(data)
        where, pid = str(record["machine"]), int(record["pid"])
        started, beat = float(record["started"]), float(record["time"])
    except (ValueError, KeyError, TypeError):
        return False
    if where == machine():
        return abs(_started(pid) - started) < 1.0
    return abs(time.time() - beat) < GRACE_SECONDS


@contextmanager
def heartbeat(renew: Callable[[bytes], None], drop: Callable[[], None]) -> Iterator[None]:
    """Inside the block, have `renew` write a new heartbeat every minute; `drop` it afterwards."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                renew(sign_of_life())
            except OSError as error:  # harmless so far: the next beat may succeed
                _log.warning("a sign of life could not be renewed: %s", error)

    thread = threading.Thread(target=beat, name="sign-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        drop()


@contextmanager
def work_folder(shared: Path, private: Path) -> Iterator[Path]:
    """`shared`, locked, or `private` (removed afterwards) if another attempt holds it."""
    with locked(shared) as held:
        if held:
            shared.mkdir(parents=True, exist_ok=True)
            try:
                yield shared
            finally:
                if not any(shared.iterdir()):
                    shared.rmdir()
            return
    with locked(private):
        private.mkdir(parents=True)
        try:
            yield private
        finally:
            shutil.rmtree(private)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of `folder` (a file next to it) inside the block; False if it is held. Ends with the process."""
    path = folder.with_name(folder.name + LOCK_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            if not _names(path, file.fileno()):  # its last holder removed it after we had opened it
                continue
            try:
                yield True
            finally:
                path.unlink()
            return


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _started(pid: int) -> float:
    """When a running process started, in seconds since the epoch; minus infinity if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return -math.inf
        return process.create_time()
    except psutil.NoSuchProcess:
        return -math.inf
