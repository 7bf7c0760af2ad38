"""The store's files in a local folder (or a network file system mounted as one).

Small files are written to a temporary name, synced, and linked or renamed into place: readers see
all of one or nothing. An attempt is written in its final place; publishing it only syncs it to the disk.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.artifact import FileEntry
from pipeline.fingerprint import file_digest

_NO_HARD_LINKS = {
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
}
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}


class LocalFiles:
    """`ROOT/KEY/NAME`, for names that are files (manifest, signs of life) or folders (attempts)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root
        """Where this machine keeps work and downloads."""

    def uri(self, key: str, attempt: str) -> None:
        """None: local files are located by their path."""

    def where(self, key: str, name: str = "") -> str:
        return str(self.root / key / name)

    def folders(self) -> list[str]:
        return _names(self.root)

    def names(self, key: str) -> list[str]:
        return _names(self.root / key)

    def read(self, key: str, name: str) -> bytes | None:
        try:
            return (self.root / key / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, key: str, name: str, data: bytes) -> None:
        """Write or replace a small file atomically."""
        path = self.root / key / name
        temporary = _write_beside(path, data)
        temporary.replace(path)
        _sync(path.parent)

    def put_new(self, key: str, name: str, data: bytes) -> bool:
        """Write a small file atomically; False, and no change, if it exists."""
        path = self.root / key / name
        temporary = _write_beside(path, data)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if path.exists():
                return False
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
        return True

    def drop(self, key: str, name: str) -> None:
        """Remove a small file if it exists."""
        path = self.root / key / name
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync(path.parent)

    def tidy(self, key: str) -> None:
        """Remove the key's folder if nothing is left in it."""
        try:
            (self.root / key).rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def draft(self, key: str, attempt: str) -> Path:
        """A new folder for an attempt's files."""
        folder = self.root / key / attempt
        folder.mkdir()
        return folder

    def publish(self, key: str, attempt: str, names: Iterable[str]) -> None:
        """Sync an attempt's files and their folders to the disk."""
        top = self.root / key / attempt
        folders = {top}
        for name in names:
            _sync(top / name)
            folders.update(parent for parent in (top / name).parents if parent.is_relative_to(top))
        for folder in (*folders, top.parent, self.root):
            _sync(folder)

    def open(self, key: str, attempt: str, files: Mapping[str, FileEntry]) -> Path:
        """The folder to read an attempt's files from."""
        return self.root / key / attempt

    def discard(self, key: str, attempt: str) -> None:
        """Remove an attempt's files, if there are any."""
        folder = self.root / key / attempt
        if folder.is_dir():
            shutil.rmtree(folder)

    def listing(self, key: str, attempt: str) -> dict[str, int]:
        """Sizes of an attempt's files by their names inside it."""
        top = self.root / key / attempt
        return {path.relative_to(top).as_posix(): path.stat().st_size for path in top.rglob("*") if path.is_file()}

    def digest(self, key: str, attempt: str, name: str) -> str:
        return file_digest(self.root / key / attempt / name)

    def usage(self, key: str, name: str) -> tuple[int, float]:
        """Bytes of a file or folder, and the time of its newest change in seconds since the epoch."""
        return usage(self.root / key / name)


def usage(path: Path) -> tuple[int, float]:
    """Bytes below `path`, and the time of the newest change there (0, 0.0 if there is nothing)."""
    size, newest = 0, 0.0
    try:
        children = (path, *path.rglob("*")) if path.is_dir() else (path,)
        for child in children:
            status = child.lstat()
            size += 0 if child.is_dir() else status.st_size
            newest = max(newest, status.st_mtime)
    except FileNotFoundError:  # another process is removing it: what is left counts
        return size, newest
    return size, newest


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _write_beside(path: Path, data: bytes) -> Path:
    """A synced temporary file in the folder of `path`; gc recognises it by its name."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    for last in (False, False, True):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = temporary.open("xb")
        except FileNotFoundError:  # another process removed the empty folder in between
            if last:
                raise
            continue
        try:
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        break
    return temporary


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not path.is_dir():  # some file systems cannot sync folders
            raise
    finally:
        os.close(descriptor)
