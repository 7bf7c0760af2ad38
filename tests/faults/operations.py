"""Every operation that changes the file system below a folder, or reports progress, seen in order; one may fail.

    open    a file opened for writing            rename, replace, link, unlink, rmdir, mkdir, fsync
    write   bytes that reach the file            save    a file that native code writes in one go (torch, safetensors)
    report  a line of the metrics log or of the tracking spool, or a word to the progress line

Operations are counted in the main thread, so a stage's sequence is the same in every run. Files are replaced by ones
that are built on `io.FileIO` in Python, so a fault strikes where the kernel would give it: at the write itself, which
for a buffered file is often its closing. Arrow's native files are given Python files to write to.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest import mock

import pyarrow as pa
import safetensors
import safetensors.torch
import torch

CLASSES = ("open", "write", "save", "fsync", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "report")
PARTIAL = frozenset({"write", "save", "report"})
"""Of which a part can be done, but for a word to the progress line."""
_PROGRESS = "(progress)"
_PROJECT = Path(__file__).parents[2]
_OURS = tuple(f"{_PROJECT / name}{os.sep}" for name in ("data_prep", "training", "pipeline"))
_REPORTS = ("metrics.jsonl", ".jsonl")


class Operation(NamedTuple):
    """One of them: its class, where in our code it comes from, and the last part of the path."""

    kind: str
    site: str
    name: str

    @property
    def has_parts(self) -> bool:
        return self.kind in PARTIAL and self.name != _PROGRESS


@dataclass(frozen=True)
class Fault:
    """What happens at operation `at` (from 1).

    error: raised; `before` the operation, `after` it, or with it done in `part`. `lasting`: from then on every
    operation fails, or of a full disk ("full") those that need room. No error: the process dies, as by `kill -9`.
    """

    at: int
    error: int | None = None
    when: str = "before"
    lasting: str = ""

    @property
    def kind(self) -> str:
        """Its name in the table."""
        if self.error is None:
            return {"before": "killed before", "after": "killed after", "part": "killed half-way"}[self.when]
        if self.lasting:
            return {"full": "disk full", "gone": "disk gone"}[self.lasting]
        name = errno.errorcode[self.error]
        return {"before": name, "after": f"{name} although done", "part": f"{name} half-way"}[self.when]


_ROOM = frozenset({"open", "write", "save", "mkdir", "link", "report"})  # what a full disk refuses


class Operations:
    """Sees the operations below `root`; with a fault, tells `struck` which one it is and then lets it happen."""

    def __init__(
        self, root: Path, fault: Fault | None = None, struck: Callable[[Operation], None] = lambda operation: None
    ) -> None:
        self.root = os.path.realpath(root)
        self.fault, self._struck = fault, struck
        self.seen: list[Operation] = []
        self._lasting = False
        self._refused = (
            ""  # file that takes no more: a buffer that could not be written is tried again when it is closed
        )
        self._inside = False

    def do(self, kind: str, path: Any, call: Callable[[], Any], part: Callable[[], Any] | None = None) -> Any:
        """Carry out `call()`, or what the fault makes of it."""
        if self._inside or threading.current_thread() is not threading.main_thread() or not self._covers(path):
            return call()
        self._inside = True  # what an operation is made of is no operation
        try:
            name = _PROGRESS if path is None else Path(str(path)).name
            return self._do(Operation(kind, _site(), name), str(path), call, part)
        finally:
            self._inside = False

    def _do(self, operation: Operation, path: str, call: Callable[[], Any], part: Callable[[], Any] | None) -> Any:
        self.seen.append(operation)
        fault = self.fault
        if fault is None:
            return call()
        if path == self._refused and operation.kind in PARTIAL:
            self._fail(fault)
        if self._lasting and (fault.lasting == "gone" or operation.kind in _ROOM):
            self._fail(fault)
        if len(self.seen) != fault.at:
            return call()
        self._lasting = bool(fault.lasting)
        self._refused = path if fault.error is not None and fault.when != "after" and operation.has_parts else ""
        self._struck(operation)
        if fault.when == "before" or (fault.when == "part" and part is None):
            self._fail(fault)
        if part is not None and fault.when == "part":
            result = part()
            if fault.error is None or not result:
                self._fail(fault)
            return result  # as the kernel does: a part is taken, and the rest refused
        result = call()
        if hasattr(result, "close"):
            result.close()
        return self._fail(fault)

    @staticmethod
    def _fail(fault: Fault) -> None:
        if fault.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        assert fault.error is not None
        raise OSError(fault.error, os.strerror(fault.error))

    def _covers(self, path: Any) -> bool:
        return path is None or f"{Path(path).absolute()}{os.sep}".startswith(self.root + os.sep)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In place of the real ones, inside."""
        new = {
            "fsync": self._of_descriptor("fsync", os.fsync),
            "mkdir": self._of_path("mkdir", os.mkdir),
            "rename": self._of_path("rename", os.rename),
            "replace": self._of_path("replace", os.replace),
            "link": self._of_path("link", os.link, which=1),
            "unlink": self._of_path("unlink", os.unlink),
            "remove": self._of_path("unlink", os.remove),
            "rmdir": self._of_path("rmdir", os.rmdir),
            "open": self._os_open(os.open),
            "write": self._os_write(os.write),
            "sendfile": self._os_sendfile(os.sendfile),
        }
        opener = self._open(io.open)
        patches = [mock.patch.object(os, name, call) for name, call in new.items()]
        patches += [mock.patch.object(builtins, "open", opener), mock.patch.object(io, "open", opener)]
        patches += [
            mock.patch.object(pa, "OSFile", self._os_file(pa.OSFile)),
            mock.patch.object(pa.ipc, "new_file", self._new_file(pa.ipc.new_file)),
            mock.patch.object(torch, "save", self._save(torch.save)),
            mock.patch.object(safetensors.torch, "serialize_file", self._save(safetensors.serialize_file)),
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in reversed(patches):
                patch.stop()

    def progress(self, message: str, done: float | None = None) -> None:
        """A progress callback that is one of the operations."""
        self.do("report", None, lambda: None)

    # -- what stands in -----------------------------------------------------------------------------------------------

    def _of_path(self, kind: str, call: Callable[..., Any], which: int = 0) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            folder = kwargs.get("dir_fd")
            path = args[which]
            path = Path(_named(folder), path) if folder is not None else path
            return self.do(kind, path, lambda: call(*args, **kwargs))

        return operation

    def _of_descriptor(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda descriptor: self.do(kind, _named(descriptor), lambda: call(descriptor))

    def _os_open(self, call: Callable[..., int]) -> Callable[..., int]:
        def operation(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return call(path, flags, *args, **kwargs)
            return self.do("open", path, lambda: call(path, flags, *args, **kwargs))

        return operation

    def _os_write(self, call: Callable[..., int]) -> Callable[..., int]:
        def operation(descriptor: int, data: Any) -> int:
            name, half = _named(descriptor), bytes(data)[: len(data) // 2]
            return self.do(_written(name), name, lambda: call(descriptor, data), lambda: call(descriptor, half))

        return operation

    def _os_sendfile(self, call: Callable[..., int]) -> Callable[..., int]:
        def operation(out: int, source: int, offset: int, count: int) -> int:
            half = (os.fstat(source).st_size - offset) // 2
            send = lambda: call(out, source, offset, count)  # noqa: E731
            return self.do("write", _named(out), send, lambda: half and call(out, source, offset, half))

        return operation

    def _open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            name = _named(file) if isinstance(file, int) else file
            if not set(mode) & set("wxa+") or not self._covers(name):
                return call(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw_mode = mode.replace("t", "").replace("b", "")
            raw = self.do("open", name, lambda: _Raw(self, file, raw_mode, closefd, opener))
            if buffering == 0:
                return raw
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

        return operation

    def _os_file(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: str, mode: str = "r", memory_pool: Any = None) -> Any:
            return pa.PythonFile(_Whole(Path(path).open("wb", 0)), mode="w") if "w" in mode else call(path, mode)

        return operation

    def _new_file(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(sink: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(sink, str):
                sink = pa.OSFile(sink, "wb")
            return call(sink, *args, **kwargs)

        return operation

    def _save(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(what: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            def part() -> None:
                call(what, path, *args, **kwargs)
                os.truncate(path, Path(path).stat().st_size // 2)

            return self.do("save", path, lambda: call(what, path, *args, **kwargs), part)

        return operation


class _Raw(io.FileIO):
    """A file whose writes are operations."""

    def __init__(self, operations: Operations, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._operations = operations
        self._path = _named(self.fileno())

    def write(self, data: Any) -> int:
        half = memoryview(data)[: len(data) // 2]
        write = super().write
        return self._operations.do(_written(self._path), self._path, lambda: write(data), lambda: write(half))


class _Whole:
    """A file for Arrow, which expects every write to be whole."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self._raw.write(view[done:])
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _named(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return "(unknown)"


def _written(path: str) -> str:
    return "report" if path.endswith(_REPORTS) else "write"


def _site() -> str:
    """The innermost place in our code: `pipeline/store/local.py:put`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return f"{Path(frame.f_code.co_filename).relative_to(_PROJECT)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "(elsewhere)"
