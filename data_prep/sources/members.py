"""The files in an archive: .zip, or .tar, which may be compressed. They are read in place.

A compressed .tar does not allow that, so a decompressed copy is made in a temporary file.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from data_prep.sources import compressed
from data_prep.sources.compressed import CutShortError, DamagedError, Opener
from data_prep.sources.files import is_litter
from data_prep.sources.records import printable, seekable

DAMAGED = (DamagedError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error)
# Raised for absurd numbers in headers, for unsupported compression, and for encryption.
_REFUSED = (ValueError, LookupError, OverflowError, NotImplementedError, RuntimeError, struct.error)
_BLOCK = tarfile.BLOCKSIZE
_LINKS = 10  # links that lead to links
_LINKED = 10  # times the size of an archive that its links may be read
_DIGITS = 1000  # in a row, more than the name of a file has


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    packed: int
    """Bytes in the archive."""
    problem: str
    """Why it cannot be read, or ""."""
    opener: Opener
    is_cut: bool = False
    """Whether the file continues after the end of the archive."""

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace("\\", "/"))

    @property
    def outside(self) -> bool:
        """Whether it would leave the archive."""
        return self.path.is_absolute() or ".." in self.path.parts

    @property
    def hidden(self) -> bool:
        """Whether it is a hidden file, or one that a system left there."""
        return is_litter(part for part in self.path.parts if part != "..")


class Archive(NamedTuple):
    """The files of an archive, in its order."""

    members: list[Member]
    problem: str = ""
    """Why some may be missing, or ""."""


@contextmanager
def archive(opener: Opener, size: int, name: str) -> Iterator[Archive]:
    """The files of an archive of `size` bytes, to be read inside the block. Raises one of DAMAGED."""
    with ExitStack() as stack:
        try:
            is_zip = name.lower().endswith(".zip")
            members = _zip(stack, opener, size) if is_zip else _tar(stack, opener, size, compressed.of_tar(name))
        except _REFUSED as error:
            raise DamagedError(str(error) or type(error).__name__) from error
        yield members


def _opened(reading: Opener) -> BinaryIO:
    try:
        return reading()
    except _REFUSED as error:
        raise DamagedError(str(error) or type(error).__name__) from error


def _zip(stack: ExitStack, opener: Opener, size: int) -> Archive:
    opened = stack.enter_context(zipfile.ZipFile(stack.enter_context(opener())))
    if sum(info.compress_size for info in opened.infolist()) > size:
        raise DamagedError("its members are longer than the archive together: many names for the same bytes")
    members = []
    for info in opened.infolist():
        if info.filename and not info.filename.endswith("/"):
            problem = "encrypted" if info.flag_bits & 1 else ""
            reading = partial(_opened, cast(Opener, partial(opened.open, info)))
            members.append(Member(printable(info.filename), info.file_size, info.compress_size, problem, reading))
    return Archive(members)


def _tar(stack: ExitStack, opener: Opener, size: int, kind: str | None) -> Archive:
    sound = compressed.Soundness() if kind is None else compressed.checked(opener, kind, size)
    raw = compressed.opened(stack.enter_context(opener()), kind)
    stream = stack.enter_context(seekable(compressed.usable(raw, sound, by_line=False)))
    members, problem = _members_of_tar(stream)
    if not members and (sound.problem or problem):
        raise DamagedError(sound.problem or problem, sound.line)
    return Archive(members, sound.problem or problem)


def _stretch(stream: BinaryIO, start: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Stretch(stream, start, size), 1 << 16))


class _Stretch(io.RawIOBase):
    """Bytes [start, start + size) of a stream. Unlike tarfile's, it gives what is there of a member that is cut."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._place, self._left = stream, start, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._stream.seek(self._place)
        data = self._stream.read(min(len(buffer), self._left))
        if self._left and not data:
            raise CutShortError("it is cut short")
        self._place, self._left = self._place + len(data), self._left - len(data)
        buffer[: len(data)] = data
        return len(data)


def _meant(info: tarfile.TarInfo, of_name: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The member itself, or the one that a link means; None if there is none."""
    target: tarfile.TarInfo | None = info
    for _ in range(_LINKS):
        if target is None or not (target.issym() or target.islnk()):
            return target
        folder = posixpath.dirname(target.name) if target.issym() else ""
        target = of_name.get(posixpath.normpath(posixpath.join(folder, target.linkname)))
    return None


class _Header(tarfile.TarInfo):
    """A header without what stalls `tarfile`, as the first releases of each Python do not fix it.

    A negative size sends it back to what it has read (CVE-2025-8194), and it looks at each digit in a row of them again
    and again (CVE-2024-6232).
    """

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError("a header states a negative size")
        return super()._block(count)  # type: ignore[misc]  (not in its stub)

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        stream = cast(BinaryIO, archive.fileobj)
        place = stream.tell()
        if any(len(digits) > _DIGITS for digits in re.findall(rb"\d+", stream.read(self._block(self.size)))):
            raise tarfile.ReadError(f"a header holds more than {_DIGITS:,} digits in a row")
        stream.seek(place)
        return super()._proc_pax(archive)  # type: ignore[misc]


def _members_of_tar(stream: BinaryIO) -> tuple[list[Member], str]:
    """The files of a tar, or of several one after another; and why some may be missing."""
    members: list[Member] = []
    end = stream.seek(0, io.SEEK_END)
    linked = 0  # bytes
    place, has_ended = 0, False
    while place < end:
        stream.seek(place)
        if not stream.read(_BLOCK).strip(b"\0"):  # blocks of zeros end an archive
            place, has_ended = place + _BLOCK, True
            continue
        stream.seek(place)
        try:
            opened = tarfile.TarFile(fileobj=cast(Any, stream), tarinfo=_Header)
        except (tarfile.TarError, ValueError, EOFError) as error:
            return members, str(error)
        try:
            opened.getmembers()
            damage = ""
        except (tarfile.TarError, ValueError, EOFError) as error:
            damage = str(error)
        infos = cast(Any, opened).members
        of_name = {posixpath.normpath(info.name): info for info in infos}
        for info in infos:
            meant = _meant(info, of_name)
            if info.isdir() or (meant is not None and meant.isdir()):
                continue
            problem = "" if meant is not None and meant.isfile() and not meant.issparse() else "not a plain file"
            if meant is None:
                problem = f"a link to {printable(info.linkname)!r}, which is not in the archive"
            where = meant or info
            linked += where.size if where is not info else 0
            if linked > max(compressed.FREE_BYTES, _LINKED * end):
                problem = f"a link; those before it are read as {_LINKED} times the archive"
            reading = partial(_stretch, stream, where.offset_data, where.size)
            is_cut = info.isfile() and info.offset_data + info.size > end
            members.append(Member(printable(info.name), where.size, where.size, problem, reading, is_cut))
        if damage or opened.offset <= place:
            return members, damage or f"no header of a member begins at byte {place:,}"
        place, has_ended = opened.offset, False
    return members, "empty file" if not end else "" if has_ended else "it is cut short: it has no end mark"
