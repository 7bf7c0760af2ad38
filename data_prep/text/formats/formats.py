"""Readers for the formats of documents, row by row.

A row that can be read becomes a `Document`, one that cannot a `Reject` with location and reason. Reading continues
after bad rows.

    .txt               one document, named by its file
    .jsonl             one per line, named by its `id_field`, or FILE:LINE
    .csv .tsv          one per row below a header; quoted fields may contain line breaks
    .parquet .arrow    one per row (.arrow: the file and the stream format, such as Hugging Face data sets on disk)
    .xml               a MediaWiki dump: one per article, named FILE:PAGE-ID
    .warc .wet         a web archive: one per page, named FILE:RECORD-ID; damage in a .gz costs a record, not the file
    .gz .bz2 .zst .xz  after any of these: the same, compressed; a damaged file is one reject and not used at all
    .tar .zip          (.tar also compressed) each member, as if it were in a folder with the archive's name
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from data_prep.sources import compressed, records
from data_prep.sources.compressed import DamagedError, Opener
from data_prep.sources.cuts import cut_by
from data_prep.sources.records import (
    Fields,
    Lines,
    Reader,
    Reject,
    Row,
    excerpt,
    json_type,
    not_utf8,
    out_of_memory,
    printable,
    row_of,
    seekable,
    too_long,
    unreadable,
    whole_text,
)
from data_prep.text.formats.tables import arrow, comma_separated, parquet, parquet_groups, tab_separated, table

_KIND_NAMES = {"gzip": "gzip", "bz2": "bzip2", "zstd": "Zstandard", "xz": "xz"}


def readable(name: str) -> bool:
    """Whether a file of this name has one of the formats above."""
    return compressed.is_archive(name) or _format(name) is not None


def read(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    """Every row of a local file; documents refer to it as `name`."""
    return read_opened(lambda: path.open("rb"), path.stat().st_size, name, fields)


def read_opened(opener: Opener, size: int, name: str, fields: Fields) -> Iterator[Row]:
    """Every row of a file that `opener` opens; the suffix of `name` determines the format."""
    try:
        if compressed.is_archive(name):
            yield from _archive(opener, size, name, fields)
        else:
            yield from _file(name, opener, size, fields)
    except OSError as error:
        yield unreadable(name, 1, error)
    except MemoryError as error:
        raise out_of_memory(name) from error


def read_stretch(opener: Opener, name: str, fields: Fields, start: int, stop: int, first: int) -> Iterator[Row]:
    """The rows of a stretch, bytes or row groups [start, stop) by `cut_by`, with `first` lines or rows before it."""
    try:
        with opener() as raw:
            if cut_by(name) == "lines":
                raw.seek(start)
                stretch = io.BufferedReader(_Bounded(raw, stop - start), 1 << 16)
                yield from _json_rows(name, Lines(stretch, first), fields)  # type: ignore[arg-type]
            else:
                yield from table(name, fields, lambda: parquet_groups(raw, start, stop), reports_problems=start == 0)
    except OSError as error:
        yield unreadable(name, first + 1, error)
    except MemoryError as error:
        raise out_of_memory(name) from error


class _Bounded(io.RawIOBase):
    """The next `size` bytes of a stream."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _format(name: str) -> str | None:
    base = compressed.split(name)[0]
    return next((suffix for suffix in FORMATS if base.lower().endswith(suffix)), None)


def _file(name: str, opener: Opener, size: int, fields: Fields, checked: bool = False) -> Iterator[Row]:
    """The rows of a file that `opener` opens; `checked`: its archive has a checksum, which is verified first."""
    kind, reader = compressed.split(name)[1], FORMATS[_format(name) or ""]
    if kind == "gzip" and reader is web_archive:
        kind, reader = None, gzipped_web_archive
    try:
        if kind is not None or checked:
            compressed.check(opener, kind, size)
    except DamagedError as damage:
        yield Reject(name, damage.line, f"damaged {_KIND_NAMES.get(kind or '', 'archive')} file: {damage}")
        return
    with opener() as raw, closing(compressed.opened(raw, kind)) as stream:
        yield from reader(name, stream, fields)


# -- text -------------------------------------------------------------------------------------------------------------


def text(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    raw = stream.read(records.MAX_BYTES + 1)
    yield too_long(name, 1, raw) if len(raw) > records.MAX_BYTES else whole_text(name, raw)


def json_lines(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    rows = 0
    for rows, row in enumerate(_json_rows(name, Lines(stream), fields), 1):  # noqa: B007
        yield row
    if not rows:
        yield Reject(name, 1, "empty file")


def _json_rows(name: str, lines: Lines, fields: Fields) -> Iterator[Row]:
    for raw in lines:
        if raw is None:
            yield too_long(name, lines.number, lines.long)
        elif raw.strip():
            yield _json_line(name, lines.number, raw, fields)


def _json_line(name: str, line: int, raw: bytes, fields: Fields) -> Row:
    def reject(reason: str) -> Reject:
        return Reject(name, line, reason, excerpt(raw))

    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=lambda _: None)
    except UnicodeDecodeError as error:
        return reject(not_utf8(raw, error))
    except json.JSONDecodeError as error:
        return reject(f"not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return reject(f"not JSON that can be read: {error}")
    if not isinstance(row, dict):
        return reject(f"expected a JSON object, found {json_type(row)}")
    for key in filter(None, fields):
        if key not in row:
            return reject(f"no field {key!r}; found {', '.join(map(repr, row)) or 'none'}")
    return row_of(name, line, row, fields, excerpt(raw))


# -- the web ----------------------------------------------------------------------------------------------------------


def wiki(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import (
        wiki as readers_wiki,
    )  # imported here because its libraries are large and rarely needed

    yield from readers_wiki.articles(name, stream)


def web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import web

    with seekable(stream) as file:
        yield from web.plain(name, file)


def gzipped_web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import web

    with seekable(stream) as file:
        yield from web.gzipped(name, file)


# -- archives ---------------------------------------------------------------------------------------------------------


# ValueError: includes absurd numbers in headers; NotImplementedError: unsupported compression.
_DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    DamagedError,
    EOFError,
    zlib.error,
    ValueError,
    NotImplementedError,
)


def _archive(opener: Opener, size: int, name: str, fields: Fields) -> Iterator[Row]:
    count = 0
    try:
        for row in _zip(opener, name, fields) if name.lower().endswith(".zip") else _tar(opener, size, name, fields):
            count += 1
            yield row
    except _DAMAGED_ARCHIVE as error:
        count += 1
        yield Reject(name, 1, f"damaged archive: {error}")
    if not count:
        yield Reject(name, 1, "the archive holds no file of a format that can be read")


class _Member(NamedTuple):
    """One file of an archive; `problem`: why it cannot be read, or ""."""

    name: str
    size: int  # bytes in the archive
    opener: Opener
    problem: str = ""


def _zip(opener: Opener, name: str, fields: Fields) -> Iterator[Row]:
    with opener() as raw, zipfile.ZipFile(raw) as archive:
        files = [info for info in archive.infolist() if info.filename and not info.filename.endswith("/")]
        problems = ["encrypted" if info.flag_bits & 1 else "" for info in files]
        members = [
            _Member(printable(info.filename), info.compress_size, partial(archive.open, info), problem)  # type: ignore[arg-type]
            for info, problem in zip(files, problems, strict=True)
        ]
        yield from _members(name, members, fields, checked=True)


def _tar(opener: Opener, size: int, name: str, fields: Fields) -> Iterator[Row]:
    kind = compressed.of_tar(name)
    compressed.check(opener, kind, size)
    with (
        opener() as raw,
        closing(seekable(compressed.opened(raw, kind))) as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        files = [info for info in archive.getmembers() if not info.isdir()]
        problems = ["" if info.isfile() and not info.issparse() else "not a plain file" for info in files]
        members = [
            _Member(printable(info.name), info.size, partial(archive.extractfile, info), problem)  # type: ignore[arg-type]
            for info, problem in zip(files, problems, strict=True)
        ]
        yield from _members(name, members, fields, checked=False)


def _members(name: str, members: list[_Member], fields: Fields, checked: bool) -> Iterator[Row]:
    """The rows of an archive's files, by name, without hidden files and those of other formats, as for folders."""
    for member in sorted(members, key=lambda member: member.name):
        parts = PurePosixPath(member.name.replace("\\", "/"))
        hidden = any(part.startswith(".") and part != ".." for part in parts.parts)
        if hidden or _format(member.name) is None:
            continue
        called = f"{name}/{parts}"
        if parts.is_absolute() or ".." in parts.parts:
            yield Reject(name, 1, f"the member {member.name!r} would leave the archive")
        elif member.problem:
            yield Reject(called, 1, member.problem)
        else:
            try:
                yield from _file(called, member.opener, member.size, fields, checked)
            except _DAMAGED_ARCHIVE as error:
                yield Reject(called, 1, f"damaged archive: {error}")


FORMATS: dict[str, Reader] = {
    ".txt": text,
    ".jsonl": json_lines,
    ".csv": comma_separated,
    ".tsv": tab_separated,
    ".parquet": parquet,
    ".arrow": arrow,
    ".xml": wiki,
    ".warc": web_archive,
    ".wet": web_archive,
}
