"""Opens compressed files by their suffix: .gz, .bz2, .zst and .xz.

A file may consist of several members (streams, frames) and end in zeros, as from a tape. `checked` finds out how much
of a file can be relied on, so that a file that is cut short gives what is whole, and a damaged one what its members
before the damage hold.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import psutil
from backports import zstd

KINDS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
MAX_EXPANSION = 1000  # decompressed / compressed size; ordinary text reaches 10 to 100
FREE_BYTES = 1 << 28  # a file that decompresses to less than this is never refused
_TAR = {".tgz": "gzip", ".tbz2": "bz2", ".txz": "xz", ".tzst": "zstd"}
_CHUNK = 1 << 20
_WINDOW = 1 << 27  # bytes of a Zstandard window that are always granted
_MAX_WINDOW_LOG = 31
_MAX_LINE = 1 << 27
_ZSTD = b"\x28\xb5\x2f\xfd"

Opener = Callable[[], BinaryIO]


class DamagedError(Exception):
    """A compressed file cannot be decompressed; `line` is the line, from 1, at which reading failed."""

    def __init__(self, problem: str, line: int = 1) -> None:
        super().__init__(problem)
        self.line = line


def split(name: str) -> tuple[str, str | None]:
    """A name without the suffix of its compression, and the compression: `a.txt.gz` gives (`a.txt`, `gzip`)."""
    for suffix, kind in KINDS.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], kind
    return name, None


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive: .zip, or .tar, which may be compressed."""
    return name.lower().endswith((".zip", *_TAR)) or split(name)[0].lower().endswith(".tar")


def of_tar(name: str) -> str | None:
    """The compression of a tar archive of this name."""
    return next((kind for suffix, kind in _TAR.items() if name.lower().endswith(suffix)), split(name)[1])


def opened(raw: BinaryIO, kind: str | None) -> BinaryIO:
    """A stream of the decompressed contents of `raw`. Reading it raises `DamagedError` where that is damaged."""
    return raw if kind is None else cast(BinaryIO, io.BufferedReader(_Decompressed(raw, kind), _CHUNK))


class Soundness(NamedTuple):
    """How much of a file can be relied on."""

    problem: str = ""
    """What is wrong with the rest; empty if nothing is."""
    usable: int | None = None
    """Decompressed bytes that can be relied on; None: all."""
    line: int = 1
    """Number of the line, from 1, in which they end."""


def checked(opener: Opener, kind: str | None, size: int) -> Soundness:
    """Read a file to its end to verify its checksums. `size`: compressed bytes.

    Of a file that is cut short, all that was decompressed is usable; of one that is damaged, the members before; of one
    that expands by more than MAX_EXPANSION, nothing. OSError if the disk fails.
    """
    lines, total = 1, 0
    with opener() as raw:
        stream = raw if kind is None else cast(BinaryIO, _Decompressed(raw, kind))
        read = getattr(stream, "read1", stream.read)  # `read` would lose what comes before an error
        try:
            while chunk := read(_CHUNK):
                lines += chunk.count(b"\n")
                total += len(chunk)
                if total > max(FREE_BYTES, MAX_EXPANSION * size):
                    return Soundness(f"it expands more than {MAX_EXPANSION:,}-fold", 0, lines)
        except CutShortError as error:
            return Soundness(str(error), total, lines)
        except DamagedError as error:
            return Soundness(str(error), cast(Any, stream).sound, error.line)
        except (zipfile.BadZipFile, *_ERRORS) as error:  # of an archive that the file is in
            return Soundness(str(error) or type(error).__name__, 0, lines)
    return Soundness()


def usable(stream: BinaryIO, soundness: Soundness, by_line: bool) -> BinaryIO:
    """The bytes of a stream that can be relied on; `by_line`: without a last line that is cut short."""
    if soundness.usable is None:
        return stream
    return cast(BinaryIO, io.BufferedReader(_Usable(stream, soundness.usable, by_line), 1 << 16))


class _Usable(io.RawIOBase):
    def __init__(self, stream: BinaryIO, size: int, by_line: bool) -> None:
        self._stream, self._left, self._by_line, self._held, self._ready = stream, size, by_line, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._stream.read(min(_CHUNK, self._left)) if self._left else b""
            self._left -= len(data)
            if not data:
                return 0
            data = self._held + data
            end = data.rfind(b"\n") + 1 if self._by_line and len(data) < _MAX_LINE else len(data)
            self._ready, self._held = data[:end], data[end:]
        given = self._ready[: len(buffer)]
        self._ready = self._ready[len(given) :]
        buffer[: len(given)] = given
        return len(given)


# -- decompression ----------------------------------------------------------------------------------------------------


class CutShortError(DamagedError):
    """A file ends within a member."""


class _Decompressor(Protocol):
    """One member of a file, as in the standard library."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor, used like the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def _zstandard() -> Any:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})


_MEMBERS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _Gzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
    "zstd": _zstandard,
}
_ERRORS = (zlib.error, lzma.LZMAError, zstd.ZstdError, ValueError, EOFError)


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of all members of a file."""

    def __init__(self, raw: BinaryIO, kind: str) -> None:
        self._raw, self._kind = raw, kind
        self._member: _Decompressor | None = None
        self._data = b""
        self._members = self._given = 0
        self._line = self._sound_line = 1
        self.sound = 0
        """Decompressed bytes of the members that have been read to their end."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, at least one before the end."""
        while True:
            if self._member is None and not self._next():
                return b""
            given = self._decompress(max(size, 1))
            if given:
                return given

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self) -> bool:
        """Begin the next member; False at the end."""
        self._data = self._data.lstrip(b"\0") if self._members else self._data
        while not self._data:
            self._data = self._raw.read(_CHUNK)
            if not self._data:
                if not self._members:
                    raise DamagedError("it is empty")
                return False
            self._data = self._data.lstrip(b"\0") if self._members else self._data
        if self._kind == "zstd":
            _check_window(self._data)
        self._member = _MEMBERS[self._kind]()
        return True

    def _decompress(self, size: int) -> bytes:
        member = cast(_Decompressor, self._member)
        if member.needs_input and not self._data:
            self._data = self._raw.read(_CHUNK)
            if not self._data:
                raise CutShortError("it is cut short", self._line)
        try:
            given = member.decompress(self._data, size)
        except _ERRORS as error:
            raise self._damage(error) from error
        except OSError as error:
            if error.errno is not None:  # the disk's
                raise
            raise self._damage(error) from error
        self._data = b""
        self._given += len(given)
        self._line += given.count(b"\n")
        if member.eof:
            self._data, self._member = member.unused_data, None
            self._members += 1
            self.sound, self._sound_line = self._given, self._line
        return given

    def _damage(self, error: Exception) -> DamagedError:
        return DamagedError(str(error) or type(error).__name__, self._sound_line)


def _check_window(data: bytes) -> None:
    """MemoryError if a Zstandard frame needs more memory than there is (RFC 8878, 3.1.1.1)."""
    if data[:4] != _ZSTD or len(data) < 6 or data[4] & 0x20:  # no frame, or one without a window
        return
    base = 1 << (10 + (data[5] >> 3))
    window = base + base // 8 * (data[5] & 7)
    if window > max(_WINDOW, psutil.virtual_memory().available // 2):
        raise MemoryError
