"""Contents of files, decompressed: which of their bytes are complete rows, digests of their beginnings, ranges of them.

Rows are those of the readers: in JSON lines and TSV every line end ends a row; in CSV those outside quoted fields do,
and a quote opens a field only at its beginning. So rows are found by the reader itself
(`data_prep.sources.separated.records`) from the first quote on, and by line ends before it.

All offsets are of the decompressed content, so that a file and its compressed copy are alike.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from data_prep.sources import compressed
from data_prep.sources.archives import DAMAGED, SourceFile, checked, damage, opened
from data_prep.sources.compressed import Soundness
from data_prep.sources.config import stamp_of
from data_prep.sources.dialect import BEGIN, Dialect, dialect_of
from data_prep.sources.files import open_file
from data_prep.sources.records import Lines, Reject, extends_ascii
from data_prep.sources.separated import TAB, records
from pipeline.scoring.detector import Detector

DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": None}  # None: rows are lines
CHUNK = 1 << 20
HEAD = 4096  # bytes whose digest tells most contents apart


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
    base = compressed.split(file.name)[0].lower()
    suffix = next((suffix for suffix in DELIMITERS if base.endswith(suffix)), None)
    if suffix is None or compressed.is_archive(file.name) or not extends_ascii(file.encoding or "utf-8"):
        return None
    delimiter = DELIMITERS[suffix] and (file.delimiter or DELIMITERS[suffix])
    above = detector.header()
    return LineFormat(delimiter, above.skip, above.header)


# -- bytes ------------------------------------------------------------------------------------------------------------


def stretch(file: SourceFile, start: int, stop: int | None = None) -> Iterator[bytes]:
    """Bytes [start, stop) of the content, to its end by default. Raises one of DAMAGED from where it is damaged on."""
    kind = None if compressed.is_archive(file.name) else compressed.split(file.name)[1]
    if not file.member and kind is None:
        with open_file(file.uri) as stream:
            stream.seek(start)
            yield from _chunks(stream, 0, (file.size if stop is None else min(stop, file.size)) - start)
        return
    allowed = max(compressed.FREE_BYTES, compressed.MAX_EXPANSION * (file.packed if file.member else file.size))
    with opened(file) as raw, closing(compressed.opened(cast(BinaryIO, raw), kind)) as stream:
        try:
            yield from _chunks(stream, start, allowed + 1 if stop is None else stop - start)
            if stop is None and stream.read(1):
                raise compressed.DamagedError(f"it expands more than {compressed.MAX_EXPANSION:,}-fold", 1)
        except (ValueError, lzma.LZMAError) as error:
            raise compressed.DamagedError(str(error), 1) from error
        except OSError as error:
            if error.errno is not None:  # an error of the disk, not of the file
                raise
            raise compressed.DamagedError(str(error), 1) from error


def _chunks(stream: BinaryIO, skipped: int, size: int) -> Iterator[bytes]:
    """The next `size` bytes of a stream, after the `skipped` first."""
    while skipped > 0 and (chunk := stream.read(min(CHUNK, skipped))):
        skipped -= len(chunk)
    while size > 0 and (chunk := stream.read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


class Digest(NamedTuple):
    """Digest of the first bytes of a content."""

    content: str
    lines: int
    """Line ends among them."""


class Digester:
    """Digests of the beginnings of a content, while its bytes pass."""

    def __init__(self, ends: Iterable[int] = ()) -> None:
        """ends: where to digest up to."""
        self.size = self.lines = 0
        self.at: dict[int, Digest] = {}
        self._total = hashlib.blake2b(digest_size=16)
        self._ends: list[int] = []
        self.expect([0, HEAD, *ends])

    def expect(self, ends: Iterable[int]) -> None:
        """Digest up to these ends, too, which have not passed yet."""
        self._ends = sorted({*self._ends, *(end for end in ends if end >= self.size)}, reverse=True)
        self.add(b"")

    def add(self, chunk: bytes) -> None:
        place = 0
        while self._ends and self._ends[-1] <= self.size + len(chunk) - place:
            end = place + self._ends[-1] - self.size
            self._add(chunk[place:end])
            place = end
            self.at[self._ends.pop()] = self.digest
        self._add(chunk[place:])

    def _add(self, part: bytes) -> None:
        self._total.update(part)
        self.size += len(part)
        self.lines += part.count(b"\n")

    @property
    def digest(self) -> Digest:
        return Digest(self._total.hexdigest(), self.lines)

    @property
    def head(self) -> str:
        """Digest of the first HEAD bytes; empty if there are fewer."""
        return self.at[HEAD].content if HEAD in self.at else ""


class Measured(NamedTuple):
    """A content: its size, and digests of its beginnings."""

    size: int
    """Bytes; of a damaged one those that can be relied on (`data_prep.sources.compressed.checked`)."""
    total: Digest
    """Of a damaged one never that of another."""
    head: str
    """See `Digester.head`."""
    at: dict[int, Digest]
    """By the ends that were asked for and are not beyond the content, and by its size."""
    damage: Reject | None = None
    """Why the rest cannot be read."""


def measure(file: SourceFile, ends_of: Callable[[str], Iterable[int]]) -> Measured:
    """Read a content once. ends_of: the ends to digest up to, given its head; those within HEAD are asked without."""
    try:
        return _measured(stretch(file, 0), ends_of)
    except DAMAGED as error:
        sound = _soundness(file, str(error) or type(error).__name__)
    reliable = _measured(stretch(file, 0, sound.usable) if sound.usable else iter(()), ends_of)
    salted = hashlib.blake2b(f"{reliable.total.content} {file.stamp}".encode(), digest_size=16)
    return reliable._replace(
        total=reliable.total._replace(content=salted.hexdigest()), damage=next(damage(file, sound))
    )


def _measured(chunks: Iterable[bytes], ends_of: Callable[[str], Iterable[int]]) -> Measured:
    digester = Digester(end for end in ends_of("") if end <= HEAD)
    for chunk in chunks:
        cut_at = max(0, HEAD - digester.size)
        if cut_at:
            digester.add(chunk[:cut_at])
            if digester.size == HEAD:
                digester.expect(ends_of(digester.head))
        digester.add(chunk[cut_at:])
    total = digester.digest
    return Measured(digester.size, total, digester.head, {**digester.at, digester.size: total})


def _soundness(file: SourceFile, problem: str) -> Soundness:
    """How much of a damaged file can be relied on; nothing where that cannot be found out."""
    try:
        sound = checked(file)
    except DAMAGED:  # of the archive that it is in
        return Soundness(problem, 0)
    return sound if sound.problem else Soundness(problem, 0)


# -- rows -------------------------------------------------------------------------------------------------------------


def last_end(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> int:
    """End of the last complete row in bytes [start, stop); `start`, where a row ends, if there is none.

    Empty lines after it may be left out.
    """
    end = place = start
    for chunk in stretch(file, start, stop):
        if line_format.delimiter not in (None, TAB) and b'"' in chunk:
            return _last_end_quoted(file, _dialect(file, line_format, stop), end, stop)
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            end = place + newline + 1
        place += len(chunk)
    return end


def _last_end_quoted(file: SourceFile, dialect: Dialect, start: int, stop: int) -> int:
    end = start
    counted = _Counted(stretch(file, start, stop))
    lines = counted.lines(first=start == 0)
    for _ in range(0 if start else dialect.skip):
        next(lines, None)
    for _ in records(file.name, lines, dialect.delimiter):
        if counted.ended:
            end = start + counted.read - lines.ahead
    return end


def head_end(file: SourceFile, line_format: LineFormat, stop: int) -> int:
    """End of the header of a content [0, stop), where its first row begins."""
    counted = _Counted(stretch(file, 0, stop))
    lines = counted.lines(first=True)
    dialect = _dialect(file, line_format, stop)
    for _ in range(dialect.skip):
        next(lines, None)
    if line_format.header and line_format.delimiter:
        header = next(records(file.name, lines, dialect.delimiter), None)
        if isinstance(header, Reject):  # reported by the reader
            return 0
    return counted.read


def _dialect(file: SourceFile, line_format: LineFormat, stop: int) -> Dialect:
    """The dialect of bytes [0, stop); those after them may be damaged."""
    if not line_format.header or not line_format.delimiter or line_format.skip:  # a layout says how it is written
        return Dialect(line_format.delimiter or "", line_format.skip)
    begin = b"".join(stretch(file, 0, min(BEGIN, stop)))
    return dialect_of(begin, line_format.delimiter, delimiter=file.delimiter)


def is_blank(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> bool:
    """Whether no row begins in bytes [start, stop)."""
    return not any(chunk.strip(line_format.blank) for chunk in stretch(file, start, stop))


def ends_there(file: SourceFile, line_format: LineFormat, row: int, stop: int, size: int) -> bool:
    """Whether the row from `row` to `stop`, which had no line end, has not been continued since."""
    after = b"".join(stretch(file, stop, min(stop + 2, size)))
    if after in (b"", b"\r"):
        return True
    end = stop + (2 if after == b"\r\n" else 1)
    return after.startswith((b"\n", b"\r\n")) and last_end(file, line_format, row, end) == end


class Range(NamedTuple):
    """Bytes [start, stop) of a content."""

    start: int
    whole: int
    """Where the last row begins if it has no line end, else `stop`."""
    stop: int


class Copy(NamedTuple):
    """A range of a content as a file below its header."""

    file: SourceFile
    shift: int
    """Lines of the content before the range that the file does not have."""
    begins: Digest | None
    """Of the bytes before the range; None for a complete content."""
    digest: str
    """Of the bytes up to its end."""
    whole_digest: str
    """Of the bytes up to its last row, if that has no line end."""
    head: str
    """See `Digester.head`."""


def copy_of(file: SourceFile, measured: Measured) -> Copy:
    """A complete content, as it is."""
    return Copy(file, 0, None, measured.total.content, measured.total.content, measured.head)


def cut(file: SourceFile, line_format: LineFormat, new: Range, path: Path) -> Copy | None:
    """Copy a range below the header to a file at `path`; None if the content has become shorter."""
    head = head_end(file, line_format, new.start) if new.start else 0
    digester = Digester([head, *new])
    with path.open("wb") as out:
        for chunk in stretch(file, 0, new.stop):
            first = digester.size
            out.write(chunk[: max(0, head - first)])
            out.write(chunk[max(0, new.start - first) :])
            digester.add(chunk)
    if digester.size < new.stop:
        return None
    status, at, name = path.stat(), digester.at, compressed.split(file.name)[0]
    about = stamp_of(status.st_size, str(status.st_mtime_ns))
    copy = SourceFile(str(path), name, status.st_size, about, encoding=file.encoding, delimiter=file.delimiter)
    shift = at[new.start].lines - at[head].lines
    return Copy(copy, shift, at[new.start], at[new.stop].content, at[new.whole].content, digester.head)


class _Counted:
    """Bytes line by line."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._buffer, self._place = chunks, b"", 0
        self.read = 0  # bytes
        self.ended = False  # whether the last line that was asked for has an end

    def lines(self, first: bool) -> Lines:
        """`first`: the first line may begin with a byte order mark."""
        return Lines(cast(BinaryIO, self), 0 if first else 1)

    def readline(self, size: int) -> bytes:
        parts, left = [], size
        while left > 0:
            if self._place == len(self._buffer):
                self._buffer, self._place = next(self._chunks, b""), 0
                if not self._buffer:
                    break
            newline = self._buffer.find(b"\n", self._place, self._place + left)
            end = newline + 1 if newline >= 0 else min(len(self._buffer), self._place + left)
            parts.append(self._buffer[self._place : end])
            left -= end - self._place
            self._place = end
            if newline >= 0:
                break
        raw = b"".join(parts)
        self.read += len(raw)
        self.ended = raw.endswith(b"\n")
        return raw
