"""Tracking operations, in files until a tracking server has them.

    HOME/tracking/NAME.jsonl    one operation a line, only appended to
    HOME/tracking/NAME.sent     how far it was sent, and MLflow's run ids by ours
    HOME/tracking/NAME.aside    operations that could not be sent, each with its error
    HOME/tracking/NAME.lock     held by the process that sends; released when it ends

A spool without a lock holder has no owner any more: its unended runs were killed, and any process may send the rest.
Operations may be sent twice after a crash, so they must be idempotent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.store.live import locked

FOLDER = "tracking"
KEPT_SECONDS = 7 * 86400.0
"""How long a spool stays after all of it was sent."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_LINES = 1000  # read at once

_log = logging.getLogger(__name__)

Operation = dict[str, Any]


@dataclass
class Progress:
    """How far a spool was sent."""

    lines: int = 0
    offset: int = 0
    """Bytes of the spool that are sent or set aside; a line begins there."""
    runs: dict[str, str] = field(default_factory=dict)
    """MLflow's run ids by ours."""
    open: list[str] = field(default_factory=list)
    """Our ids of the runs that were sent and whose end was not, oldest first."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Answers to operations that have one."""
    tries: int = 0
    """How often the next operation failed while the server answered."""
    aside: int = 0
    """How many operations were set aside."""

    def advance(self, operations: list[Operation | None], offset: int) -> None:
        for operation in operations:
            _follow_ends(operation, self.open)
        self.lines += len(operations)
        self.offset = offset
        self.tries = 0


class Spool:
    """One flow's operations. Any thread and any process may append; only the holder of `lock` sends."""

    def __init__(self, home: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a flow run: letters, digits, '.', '_' and '-' are allowed")
        self.name = name
        self.path = home.absolute() / FOLDER / f"{name}.jsonl"
        self._sent = self.path.with_name(f"{name}.sent")
        self._aside = self.path.with_name(f"{name}.aside")
        self._file: int | None = None
        self._guard = threading.Lock()
        self._torn = False
        self.lost = 0
        """Operations that could not even be written (a full disk)."""

    # -- appending ----------------------------------------------------------------------------------------------------

    def append(self, operation: Operation) -> None:
        """Append an operation. Never raises for a full disk: what cannot be written is counted and lost."""
        line = (json.dumps(operation, separators=(",", ":"), default=str) + "\n").encode()
        with self._guard:
            try:
                if self._file is None:
                    self._file = self._open()
                if self._torn:
                    line = b"\n" + line
                self._torn = True  # until the whole line is there
                while line:
                    line = line[os.write(self._file, line) :]
                self._torn = False
            except OSError as error:
                self.lost += 1
                if self.lost == 1:
                    _log.warning("tracking goes on without what cannot be written to %s: %s", self.path, error)

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(descriptor).st_size
        self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        return descriptor

    def close(self) -> None:
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    # -- sending ------------------------------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[bool]:
        """Hold the right to send inside the block; False if another process has it."""
        return locked(self.path.with_suffix(""))

    def read(self, offset: int) -> list[tuple[Operation | None, int]]:
        """The next operations from `offset` on, each with the offset after it; None for a line that is damaged."""
        operations: list[tuple[Operation | None, int]] = []
        for line in self._lines(offset):
            offset += len(line)
            operation = self._parse(line)
            operations.append((operation if operation and {"op", "id"} <= operation.keys() else None, offset))
            if len(operations) == _LINES:
                break
        return operations

    def load(self) -> Progress:
        """How far the spool was sent. A damaged file counts as nothing sent: sending again is harmless."""
        try:
            return Progress(**json.loads(self._sent.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return Progress()
        except (ValueError, TypeError) as error:
            _log.warning("%s is damaged (%s): %s is sent again", self._sent, error, self.path)
            return Progress()

    def save(self, progress: Progress) -> None:
        temporary = self._sent.with_name(f".{self._sent.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(progress)))
        temporary.replace(self._sent)

    def unsent(self) -> int:
        """Operations that no server has yet, those set aside for another try included."""
        behind = sum(1 for _ in self._lines(self.load().offset))
        return behind + sum(not entry["final"] for entry in self._set_aside())

    def refused(self) -> list[str]:
        """What the server will not take, each with the reason."""
        return [f"{entry['operation']['op']}: {entry['error']}" for entry in self._set_aside() if entry["final"]]

    # -- set aside ----------------------------------------------------------------------------------------------------

    def set_aside(self, operation: Operation, error: str, final: bool) -> None:
        """Keep an operation that could not be taken; unless `final`, it will be tried again."""
        with self._aside.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"error": error, "final": final, "operation": operation}) + "\n")

    def retry_aside(self) -> None:
        """Append what was set aside for another try to the operations still to be sent."""
        entries = self._set_aside()
        operations = [entry["operation"] for entry in entries if not entry["final"]]
        if not operations:
            return
        for operation in operations:
            self.append(operation)
        temporary = self._aside.with_name(f".{self._aside.name}.{os.getpid()}.tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries if entry["final"]))
        temporary.replace(self._aside)  # if this is not reached, they are sent twice, which is harmless

    def _set_aside(self) -> list[dict[str, Any]]:
        if not self._aside.exists():
            return []
        parsed = (self._parse(line) for line in self._aside.read_bytes().splitlines())
        return [entry for entry in parsed if entry is not None]

    # -- without an owner ---------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Mark the unended runs of a dead owner as killed; returns how many. Call with the lock held."""
        if not self.path.exists():
            return 0
        progress = self.load()
        running = list(progress.open)
        for line in self._lines(progress.offset):
            _follow_ends(self._parse(line), running)
        last = int(self.path.stat().st_mtime * 1000)
        for run in reversed(running):
            self.append({"op": "end", "id": run, "status": "KILLED", "time": last})
        return len(running)

    def tidy(self) -> None:
        """Remove the files of a spool that was sent long ago. Call with the lock held."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return
        if age > KEPT_SECONDS and not self.unsent() and not self.load().open:
            for path in (self.path, self._sent, self._aside):
                path.unlink(missing_ok=True)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _lines(self, offset: int) -> Iterator[bytes]:
        """Complete lines from `offset` on."""
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        with file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line

    def _parse(self, line: bytes) -> Operation | None:
        if not line.strip():  # writing was resumed after a torn line
            return None
        try:
            parsed = json.loads(line)
        except ValueError:
            _log.warning("a line of %s is damaged and left out: %.80r", self.path, line)
            return None
        return parsed if isinstance(parsed, dict) else None


def spools(home: Path) -> list[Spool]:
    """All spools of a home, oldest first."""
    by_time = []
    for path in (home.absolute() / FOLDER).glob("*.jsonl"):
        try:
            by_time.append((path.stat().st_mtime, path.stem))
        except FileNotFoundError:  # another process has just tidied it away
            continue
    return [Spool(home, name) for _, name in sorted(by_time) if _NAME.fullmatch(name)]


def _follow_ends(operation: Operation | None, running: list[str]) -> None:
    """Update the list of runs that have begun and not ended."""
    if operation is None or operation.get("op") not in ("run", "end"):
        return
    if operation["id"] in running:
        running.remove(operation["id"])
    if operation["op"] == "run":
        running.append(operation["id"])
