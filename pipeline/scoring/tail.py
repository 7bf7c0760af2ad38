"""Files of lines that may grow at their end: which of their bytes are whole rows, and stretches of them.

What a row is, the readers say: every line end ends one of JSON lines; of CSV and TSV those do that are not in a quoted
field, and a quote opens one at the beginning of a field only. So rows are found by the reader itself
(`data_prep.text.formats.tables.records`) from the first quote on, and by their line ends alone before it.
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
    """How the rows of a file of lines stand in it."""

    delimiter: str | None
    skip: int = 0
    """Lines before the header that are no data."""
    header: bool = False

    @property
    def blank(self) -> bytes:
        """What a row is not made of alone: the reader passes over it."""
        return b"\r\n" if self.delimiter else b" \t\r\n\x0b\x0c"


def line_format_of(detector: Detector, file: SourceFile) -> LineFormat | None:
    """How a file is read for a detector; None if it does not grow row by row."""
    suffix = next((suffix for suffix in DELIMITERS if file.name.lower().endswith(suffix)), None)
    if suffix is None or file.member:
        return None
    delimiter = DELIMITERS[suffix]
    above = detector.header()
    return LineFormat(delimiter, above.skip, above.header)


def last_end(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> int:
    """Where the last whole row in bytes [start, stop) ends, `start` being where one does; `start` if there is none.

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
    """Where the header of a file ends, and all before its first row."""
    with open_file(file.uri) as stream:
        counted = _Counted(stream, file.size)
        lines = counted.lines(first=True)
        for _ in range(line_format.skip):
            next(lines, None)
        if line_format.header and line_format.delimiter:
            header = next(records(file.name, lines, line_format.delimiter), None)
            if isinstance(header, Reject):  # which is the reader's to tell
                return 0
        return counted.read


def is_blank(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> bool:
    """Whether no row begins in bytes [start, stop)."""
    return not any(chunk.strip(line_format.blank) for chunk in stretch(file, start, stop))


def ends_there(file: SourceFile, line_format: LineFormat, row: int, stop: int) -> bool:
    """Whether the row that begins at `row`, and was whole but for a line end at `stop`, has not gone on since."""
    after = b"".join(stretch(file, stop, min(stop + 2, file.size)))
    if after in (b"", b"\r"):
        return True
    end = stop + (2 if after == b"\r\n" else 1)
    return after.startswith((b"\n", b"\r\n")) and last_end(file, line_format, row, end) == end


class Digest(NamedTuple):
    """Of the first bytes of a file."""

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
        except DAMAGED:  # what an archive does not give is told where its rows are read
            total.update(file.stamp.encode())
        prefixes.append(Digest(total.hexdigest(), lines))
    return prefixes


def cut(file: SourceFile, line_format: LineFormat, start: int, stop: int, path: Path) -> tuple[SourceFile, int]:
    """Bytes [start, stop) as a file of their own at `path`, under what is before the first row; the lines of that."""
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
