"""Who is still working: signs of life for attempts, locks for work folders.

An attempt is live while the process that makes it runs. On the machine (and inside the container) that started it, the
process table says so. Elsewhere its sign of life says so, which is renewed every minute and trusted for fifteen.

A work folder outlives its attempts, so two attempts at one key would share it: the first locks it, and the other gets a
private one that is removed with it.
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
    """What must be equal for two processes to see each other in the process table: host, boot and PID namespace."""
    parts = [platform.node()]
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.is_symlink():
        return "/".join([*parts, boot.read_text().strip(), str(namespace.readlink())])
    import psutil

    return "/".join([*parts, str(int(psutil.boot_time()))])


def sign_of_life() -> bytes:
    """This process's sign of life, as of now."""
    pid = os.getpid()
    record = {"machine": machine(), "pid": pid, "started": _started(pid), "time": time.time()}
    return json.dumps(record, sort_keys=True).encode()


def is_live(data: bytes | None) -> bool:
    """Whether the process that left this sign of life is still at work, as far as can be told from here."""
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
    """Have `renew` write a new sign of life every minute inside the block, and `drop` it afterwards."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                renew(sign_of_life())
            except OSError as error:  # costs nothing yet: the next beat may get through
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
    """Hold the lock of `folder` (a file beside it) inside the block, or get False. Ends with the process."""
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
