"""Opens compressed files by their suffix: .gz, .bz2, .zst and .xz."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO

import pyarrow as pa

KINDS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
MAX_EXPANSION = 1000  # decompressed / compressed size; ordinary text reaches 10 to 100
FREE_BYTES = 1 << 28  # a file that decompresses to less than this is never refused
_CHUNK = 1 << 20

Opener = Callable[[], BinaryIO]


class DamagedError(Exception):
    """A compressed file cannot be decompressed; `line` is the line, from 1, at which reading failed."""

    def __init__(self, problem: str, line: int) -> None:
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
    return name.lower().endswith((".zip", ".tgz")) or split(name)[0].lower().endswith(".tar")


def of_tar(name: str) -> str | None:
    """The compression of a tar archive of this name."""
    return "gzip" if name.endswith(".tgz") else split(name)[1]


def opened(raw: BinaryIO, kind: str | None) -> BinaryIO:
    """A stream of the decompressed contents of `raw`."""
    if kind is None:
        return raw
    if kind == "xz":
        return lzma.open(raw)  # type: ignore[return-value]
    stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind)
    return io.BufferedReader(stream, _CHUNK)  # type: ignore[arg-type,type-var]


def check(opener: Opener, kind: str | None, size: int) -> None:
    """Read to the end to verify checksums. `size`: compressed bytes.

    Raises `DamagedError` if the file is damaged or expands by more than MAX_EXPANSION.
    """
    line, total = 1, 0
    with opener() as raw:
        try:
            stream = opened(raw, kind)
            while chunk := stream.read(_CHUNK):
                line += chunk.count(b"\n")
                total += len(chunk)
                if total > max(FREE_BYTES, MAX_EXPANSION * size):
                    raise DamagedError(f"it expands more than {MAX_EXPANSION:,}-fold", line)
        except (EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise DamagedError(str(error) or type(error).__name__, line) from error
        except OSError as error:
            if error.errno is not None:  # an error of the disk, not of the file
                raise
            raise DamagedError(str(error), line) from error
