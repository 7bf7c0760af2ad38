"""A pyarrow file system whose changes are operations (`tests.faults.operations`)."""

from __future__ import annotations

from typing import Any

from pyarrow import fs

from tests.faults.operations import Operations


def traced(operations: Operations, system: fs.FileSystem, kind: str) -> fs.FileSystem:
    """`system` below the operations' root; `kind` is what it calls itself: an object store ("s3") has no folders."""
    return _Remote(operations, system, kind)  # type: ignore[return-value]


class _Remote:
    """See `traced`."""

    _KINDS = {  # noqa: RUF012
        "create_dir": "mkdir",
        "move": "rename",
        "delete_file": "unlink",
        "delete_dir": "rmdir",
    }

    def __init__(self, operations: Operations, system: fs.FileSystem, kind: str) -> None:
        self._operations, self._system, self.type_name = operations, system, kind

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._system, name)
        if name not in self._KINDS:
            return call

        def operation(path: str, *args: Any, **kwargs: Any) -> Any:
            place = f"{self._operations.root}/{path}"
            return self._operations.do(self._KINDS[name], place, lambda: call(path, *args, **kwargs))

        return operation

    def open_output_stream(self, path: str) -> Any:
        place = f"{self._operations.root}/{path}"
        if self.type_name == "s3":
            return _Object(self._operations, self._system, path, place)
        stream = self._operations.do("open", place, lambda: self._system.open_output_stream(path))
        return _RemoteStream(self._operations, stream, place)


class _RemoteStream:
    """A stream of a remote file, which is there as soon as it is opened."""

    def __init__(self, operations: Operations, stream: Any, place: str) -> None:
        self._operations, self._stream, self._place = operations, stream, place

    def __enter__(self) -> _RemoteStream:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        def part() -> None:
            self._stream.write(data[: len(data) // 2])

        self._operations.do("write", self._place, lambda: self._stream.write(data), part)


class _Object:
    """A stream of an object store: nothing is there before it is closed, and then what was written, all at once."""

    def __init__(self, operations: Operations, system: fs.FileSystem, path: str, place: str) -> None:
        self._operations, self._system, self._path, self._place = operations, system, path, place
        self._parts: list[bytes] = []
        operations.do("open", place, lambda: None)

    def __enter__(self) -> _Object:
        return self

    def __exit__(self, *error: object) -> None:
        self._operations.do("write", self._place, self._put)

    def write(self, data: bytes) -> None:
        def part() -> None:
            self._parts.append(data[: len(data) // 2])

        self._operations.do("write", self._place, lambda: self._parts.append(data), part)

    def _put(self) -> None:
        self._system.create_dir(self._path.rpartition("/")[0], recursive=True)  # there are no folders to make
        with self._system.open_output_stream(self._path) as stream:
            stream.write(b"".join(self._parts))
