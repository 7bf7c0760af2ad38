"""Sends spools to a tracking server in a separate thread, and keeps what it cannot send.

    caller ──append──► spool file ──read──► sender ──► server
                                              │  fails: wait 0.5, 1, 2 … 60 s and try again
                                              └─ refused, or fails 5 times while the server answers others: set aside

The thread sends its own spool first, then those of earlier flows of the same home. Failures are logged, not raised:
tracking must not stop the flow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

from data_prep.legible import masked
from pipeline.tracking.mlflow_server import METRICS_AT_ONCE, Server, is_refusal
from pipeline.tracking.spool import Operation, Progress, Spool, spools

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
LINGER_SECONDS = 0.5
"""How long new operations may gather before they are sent together."""
IDLE_SECONDS = 1.0
"""How often to look for operations that another process appended."""
LAST_TRIES = 3
"""Failures in a row after which a closing sender stops."""
TRIES = 5
"""Failures of one operation, while the server answers, after which it is set aside."""

_log = logging.getLogger(__name__)


class Sender:
    """The thread that sends one flow's spool: `start` it, `wake` it after appending, `close` it in the end."""

    def __init__(self, spool: Spool, server: Server) -> None:
        self.spool = spool
        self.progress = Progress()
        self._server = server
        self._wake, self._closing, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._others = _left_behind(server, spool.name, self._closing.is_set)
        self._held = ExitStack()
        self._unlockable = False
        self._owns = self._own()
        if self._owns:  # an owner before us is gone, and this one has begun nothing yet
            self.spool.retry_aside()
            self.spool.recover()

    def start(self) -> None:
        if self._thread.ident is None:
            with self._starting:
                if self._thread.ident is None:
                    self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def sent_so_far(self) -> Progress:
        """How far the spool was sent, by any process."""
        return self.progress if self._owns else self.spool.load()

    def close(self, timeout: float) -> None:
        """Try to send the rest for at most `timeout` seconds. A thread that hangs in a request is abandoned."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is None:
            self._held.close()
            return
        self._thread.join(timeout)
        self._stop.set()
        self._thread.join(0.05)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with self._held:
            failures = last_failures = 0  # in a row
            while not self._stop.is_set():
                before = self.progress.lines
                try:
                    sent = self._advance()
                except Exception as error:  # no error may reach the flow
                    if self.progress.lines > before:
                        failures = last_failures = 0
                    failures += 1
                    last_failures += self._closing.is_set()
                    self._note(failures, error)
                    if last_failures == LAST_TRIES:
                        break
                    self._pause(failures)
                    continue
                if sent:
                    failures = last_failures = 0
                elif self._closing.is_set():
                    break
                else:
                    self._rest()
            self._others.close()

    def _advance(self) -> bool:
        """Send the next operations, own ones first; False if there are none."""
        self._owns = self._owns or self._own()
        if self._owns and forward(self.spool, self.progress, self._server, self._stop.is_set):
            return True
        return not self._closing.is_set() and next(self._others, False)

    def _own(self) -> bool:
        """Lock the spool for sending, unless another process of the same flow run holds it."""
        try:
            if self._unlockable or not self._held.enter_context(self.spool.lock()):
                return False
        except OSError as error:  # not writable, or a file system without locks: nothing is sent
            self._unlockable = True
            _log.warning("%s cannot be locked, so it is not sent: %s", self.spool.path, error)
            return False
        self.progress = self.spool.load()
        return True

    def _rest(self) -> None:
        """Wait for new operations, then for more of them to gather."""
        self._wake.wait(IDLE_SECONDS)
        if self._wake.is_set():
            self._wake.clear()
            self._closing.wait(LINGER_SECONDS)

    def _pause(self, failures: int) -> None:
        if self._closing.is_set():
            self._stop.wait(FIRST_WAIT_SECONDS)
        else:
            self._closing.wait(min(FIRST_WAIT_SECONDS * 2 ** min(failures - 1, 10), LONGEST_WAIT_SECONDS))

    def _note(self, failures: int, error: Exception) -> None:
        level = logging.WARNING if failures == 1 else logging.DEBUG
        _log.log(level, "%s does not take what is tracked, which is kept: %s", self._server.uri, _brief(error))


def forward(spool: Spool, progress: Progress, server: Server, stop: Callable[[], bool]) -> bool:
    """Send the next operations of the spool; False if there are none. Call with the spool's lock held.

    Raises the error if the same operations are to be retried.
    """
    lines = spool.read(progress.offset)
    for operations, offset in _groups(lines):
        if stop():
            return False
        if operations[0] is not None:
            sendable = [operation for operation in operations if operation is not None]
            try:
                _send(sendable, progress, server)
            except Exception as error:
                if not _hopeless(error, sendable[0], progress, server):
                    spool.save(progress)
                    raise
                for operation in sendable:
                    _send_or_set_aside(operation, spool, progress, server)
        progress.advance(operations, offset)
        spool.save(progress)
    return bool(lines)


def send_pending(home: Path, uri: str | None = None) -> int:
    """Send the operations that finished flows left in `home`, synchronously; returns how many remain.

    Runs whose owner died are ended as killed first.
    """
    for _ in _left_behind(Server(home, uri), "", lambda: False):
        pass
    return sum(spool.unsent() for spool in spools(home))


def recover(home: Path) -> int:
    """Mark runs of flows whose process died as killed; returns how many. Needs no server: it is sent later."""
    num_killed = 0
    for spool in spools(home):
        with spool.lock() as held:
            num_killed += spool.recover() if held else 0
            spool.close()
    return num_killed


# -- inside -----------------------------------------------------------------------------------------------------------


def _left_behind(server: Server, own: str, stop: Callable[[], bool]) -> Generator[bool, None, None]:
    """Send the other spools of the server's home that have no owner, one group of operations at a time."""
    for spool in spools(server.home):
        if spool.name == own:
            continue
        with spool.lock() as held:
            if not held:
                continue
            spool.retry_aside()
            spool.recover()
            spool.close()
            progress = spool.load()
            try:
                while forward(spool, progress, server, stop):
                    yield True
            except Exception as error:
                _log.debug("%s is sent another time: %s", spool.path, _brief(error))
                if not server.answers():
                    return
            spool.tidy()


def _groups(lines: list[tuple[Operation | None, int]]) -> Iterator[tuple[list[Operation | None], int]]:
    """Operations to be sent together, and the offset after them: metrics of one run in a row, others alone."""
    group: list[Operation | None] = []
    values, end = 0, 0
    for operation, offset in lines:
        num_values = len(operation["values"]) if operation is not None and operation["op"] == "metrics" else 0
        if group and not (_joins(operation, group[0]) and values + num_values <= METRICS_AT_ONCE):
            yield group, end
            group, values = [], 0
        group.append(operation)
        values, end = values + num_values, offset
    if group:
        yield group, end


def _joins(operation: Operation | None, first: Operation | None) -> bool:
    if operation is None or first is None:
        return False
    return operation["op"] == first["op"] == "metrics" and operation["id"] == first["id"]


def _send(operations: list[Operation], progress: Progress, server: Server) -> None:
    answer = server.send(operations, progress.runs)
    if answer is not None:
        progress.outcomes[operations[0]["ask"]] = answer


def _hopeless(error: Exception, first: Operation, progress: Progress, server: Server) -> bool:
    """Whether the operation is at fault, not the server. A run's beginning is retried more: others depend on it."""
    if not server.answers():
        return False
    progress.tries += 1
    if first["op"] == "run":
        return is_refusal(error) and progress.tries >= TRIES
    return is_refusal(error) or progress.tries >= TRIES


def _send_or_set_aside(operation: Operation, spool: Spool, progress: Progress, server: Server) -> None:
    try:
        _send([operation], progress, server)
    except Exception as error:
        final = is_refusal(error)
        level = logging.DEBUG if progress.aside else logging.WARNING
        _log.log(level, "%s: %r is set aside: %s", spool.path, operation["op"], _brief(error))
        progress.aside += 1
        spool.set_aside(operation, _brief(error), final)
        if "ask" in operation:
            progress.outcomes[operation["ask"]] = f"not done: {_brief(error)}"


def _brief(error: Exception) -> str:
    text = masked(" ".join(str(error).split()))  # before it is cut
    return f"{type(error).__name__}: {text[:200]}"
