"""Files of lines that may grow at their end: which of their bytes are complete rows, and ranges of them.

Rows are those of the readers: in JSON lines every line end ends a row; in CSV and TSV those outside quoted fields do,
and a quote opens a field only at its beginning. So rows are found by the reader itself
(`data_prep.sources.separated.records`) from the first quote on, and by line ends before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from data_prep.sources.archives import DAMAGED, SourceFile, opened
from data_prep.sources.config import stamp_of
from data_prep.sources.files import open_file
from data_prep.sources.records import Lines, Reject
from data_prep.sources.separated import records
from pipeline.scoring.detector import Detector

DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": None}  # None: rows are lines
CHUNK = 1 << 20


class LineFormat(NamedTuple):
    """How rows are stored in a file of lines."""

    delimiter: str | None
    skip: int = 0
    """Lines before the header that are no data."""
    header: bool = False

    @property
    def blank(self) -> bytes:
        """Characters of blank lines, which the reader skips."""
        return b"\r\n" if self.delimiter else b" \t\r\n\x0b\x0c"


def line_format_of(detector: Detector, file: SourceFile) -> LineFormat | None:
    """The format of a file for a detector; None if it does not grow row by row."""
    suffix = next((suffix for suffix in DELIMITERS if file.name.lower().endswith(suffix)), None)
    if suffix is None or file.member:
        return None
    delimiter = DELIMITERS[suffix]
    above = detector.header()
    return LineFormat(delimiter, above.skip, above.header)


def last_end(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> int:
    """End of the last complete row in bytes [start, stop); `start`, where a row ends, if there is none.

    Empty lines after it may be left out.
    """
    end = place = start
    for chunk in stretch(file, start, stop):
        if line_format.delimiter and b'"' in chunk:
            return _last_end_quoted(file, line_format.delimiter, end, stop)
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            end = place + newline + 1
        place += len(chunk)
    return end


def _last_end_quoted(file: SourceFile, delimiter: str, start: int, stop: int) -> int:
    end = start
    with open_file(file.uri) as stream:
        stream.seek(start)
        counted = _Counted(stream, stop - start)
        for _ in records(file.name, counted.lines(first=start == 0), delimiter):
            if counted.ended:
                end = start + counted.read
    return end


def head_end(file: SourceFile, line_format: LineFormat) -> int:
    """End of the header of a file, where its first row begins."""
    with open_file(file.uri) as stream:
        counted = _Counted(stream, file.size)
        lines = counted.lines(first=True)
        for _ in range(line_format.skip):
            next(lines, None)
        if line_format.header and line_format.delimiter:
            header = next(records(file.name, lines, line_format.delimiter), None)
            if isinstance(header, Reject):  # reported by the reader
                return 0
        return counted.read


def is_blank(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> bool:
    """Whether no row begins in bytes [start, stop)."""
    return not any(chunk.strip(line_format.blank) for chunk in stretch(file, start, stop))


def ends_there(file: SourceFile, line_format: LineFormat, row: int, stop: int) -> bool:
    """Whether the row from `row` to `stop`, which had no line end, has not been continued since."""
    after = b"".join(stretch(file, stop, min(stop + 2, file.size)))
    if after in (b"", b"\r"):
        return True
    end = stop + (2 if after == b"\r\n" else 1)
    return after.startswith((b"\n", b"\r\n")) and last_end(file, line_format, row, end) == end


class Digest(NamedTuple):
    """Digest of the first bytes of a file."""

    content: str
    lines: int
    """Line ends among them."""


def digests(file: SourceFile, *stops: int) -> list[Digest]:
    """Digests of bytes [0, stop) of a file, for stops in ascending order."""
    total, lines, prefixes = hashlib.blake2b(digest_size=16), 0, []
    for start, stop in pairwise((0, *stops)):
        try:
            for chunk in stretch(file, start, stop):
                total.update(chunk)
                lines += chunk.count(b"\n")
        except DAMAGED:  # damage in an archive is reported where its rows are read
            total.update(file.stamp.encode())
        prefixes.append(Digest(total.hexdigest(), lines))
    return prefixes


def cut(file: SourceFile, line_format: LineFormat, start: int, stop: int, path: Path) -> tuple[SourceFile, int]:
    """Copy bytes [start, stop) below the header to a file at `path`; returns it, and the lines of the header."""
    head = head_end(file, line_format) if start else 0
    lines = 0
    with path.open("wb") as out:
        for chunk in stretch(file, 0, head):
            lines += chunk.count(b"\n")
            out.write(chunk)
        for chunk in stretch(file, start, stop):
            out.write(chunk)
    status = path.stat()
    stretch_file = SourceFile(str(path), file.name, status.st_size, stamp_of(status.st_size, str(status.st_mtime_ns)))
    return stretch_file, lines


def stretch(file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
    """Bytes [start, stop) of a file. Raises one of DAMAGED where an archive does not hold it."""
    with opened(file) if file.member else open_file(file.uri) as stream:
        stream.seek(start)
        left = stop - start
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


class _Counted:
    """The next `size` bytes of a stream, line by line."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size
        self.read = 0  # bytes
        self.ended = False  # whether the last line that was asked for has an end

    def lines(self, first: bool) -> Lines:
        """`first`: the first line may begin with a byte order mark."""
        return Lines(cast(BinaryIO, self), 0 if first else 1)

    def readline(self, size: int) -> bytes:
        raw = self._stream.readline(min(size, self._left))
        self._left -= len(raw)
        self.read += len(raw)
        self.ended = raw.endswith(b"\n")
        return raw
