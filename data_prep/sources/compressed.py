"""Compressed files, opened by their name: .gz, .bz2, .zst and .xz."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO

import pyarrow as pa

KINDS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
MAX_EXPANSION = 1000  # times; honest text reaches 10 to 100
FREE_BYTES = 1 << 28  # below this a file may expand as it likes
_CHUNK = 1 << 20

Opener = Callable[[], BinaryIO]


class DamagedError(Exception):
    """What a compressed file holds cannot be had; `line` is how many lines came before, plus one."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def split(name: str) -> tuple[str, str | None]:
    """A name without its compression's suffix, and the compression: `a.txt.gz` is (`a.txt`, `gzip`)."""
    for suffix, kind in KINDS.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], kind
    return name, None


def is_archive(name: str) -> bool:
    """Whether a file of this name holds files: .zip, or .tar, which may be compressed."""
    return name.lower().endswith((".zip", ".tgz")) or split(name)[0].lower().endswith(".tar")


def of_tar(name: str) -> str | None:
    """The compression of a tar archive of this name."""
    return "gzip" if name.endswith(".tgz") else split(name)[1]


def opened(raw: BinaryIO, kind: str | None) -> BinaryIO:
    """A stream of what `raw` holds when decompressed."""
    if kind is None:
        return raw
    if kind == "xz":
        return lzma.open(raw)  # type: ignore[return-value]
    stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind)
    return io.BufferedReader(stream, _CHUNK)  # type: ignore[arg-type,type-var]


def check(opener: Opener, kind: str | None, size: int) -> None:
    """Read to the end, where check sums are; until then nothing is certain. `size`: compressed bytes.

    Raises `DamagedError`, also for a file that expands as no honest one does.
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
            if error.errno is not None:  # the disk's trouble, not the file's
                raise
            raise DamagedError(str(error), line) from error
