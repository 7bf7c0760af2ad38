"""Readers for the formats of documents, row by row.

A row that can be read becomes a `Document`, one that cannot a `Reject` with location and reason. Reading continues
after bad rows.

    .txt .text         one document, named by its file
    .jsonl .ndjson     one per line, named by its `id_field`, or FILE:LINE (also .jsonlines)
    .json              the same, or an array of objects, or one object after another
    .csv .tsv .tab     one per row below a header; quoted fields may contain line breaks
    .parquet .arrow    one per row (.arrow: the file and the stream format, such as Hugging Face data sets on disk; also
                       .feather)
    .xml               a MediaWiki dump, or a part of one (.xml-p1p100): one per article, named FILE:PAGE-ID
    .warc .wet         a web archive: one per page, named FILE:RECORD-ID; damage in a .gz costs a record, not the file
    .gz .bz2 .zst .xz  after any of these: the same, compressed; a file that is cut short gives the rows that are whole
    .tar .zip          (.tar also compressed) each member, as if it were in a folder with the archive's name

A file that cannot be read, or not from some row on, gives a reject with `lost`, since the number of its rows is
unknown.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from data_prep.sources import compressed, members, records
from data_prep.sources.compressed import Opener, Soundness
from data_prep.sources.config import suffix_of
from data_prep.sources.cuts import cut_by
from data_prep.sources.members import DAMAGED
from data_prep.sources.records import (
    HEAD,
    Fields,
    Lines,
    Reader,
    Reject,
    Row,
    excerpt,
    joined,
    lost,
    marked_encoding,
    not_encoded,
    out_of_memory,
    recoded,
    seekable,
    unreadable,
    whole_text,
)
from data_prep.sources.stand_ins import stand_in
from data_prep.text.formats.json_rows import json_lines, json_values, rows_of_lines
from data_prep.text.formats.tables import arrow, comma_separated, parquet, parquet_groups, tab_separated, table

_PART_OF_A_DUMP = re.compile(r"(?<=[.]xml)-p[0-9]+p[0-9]+$")
_KIND_NAMES = {"gzip": "gzip", "bz2": "bzip2", "zstd": "Zstandard", "xz": "xz"}


class Format(NamedTuple):
    """How files with a suffix are read."""

    reader: Reader
    by_line: bool = False
    """Whether rows end with lines, which are then decoded from the encoding of the source."""
    by_row: bool = True
    """Whether the rows before the place where a file is cut short are whole."""


def readable(name: str) -> bool:
    """Whether a file of this name has one of the formats above."""
    return compressed.is_archive(name) or _format(name) is not None


def is_one_document(name: str) -> bool:
    """Whether a file of this name is one row, so that its row is no less than the file."""
    form = _format(name)
    return form is not None and form.reader is text


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
                yield from rows_of_lines(name, Lines(recoded(stretch, fields.encoding), first), fields)  # type: ignore[arg-type]
            else:
                yield from table(
                    name, fields, lambda: parquet_groups(raw, fields, start, stop), reports_problems=start == 0
                )
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


def _format(name: str) -> Format | None:
    base = _PART_OF_A_DUMP.sub("", compressed.split(name)[0].lower())
    return next((form for suffix, form in FORMATS.items() if base.endswith(suffix)), None)


def _file(name: str, opener: Opener, size: int, fields: Fields, checked: bool = False) -> Iterator[Row]:
    """The rows of a file that `opener` opens; `checked`: its archive has a checksum, which is verified first."""
    form = _format(name)
    if form is None:
        raise ValueError(f"{name} has none of the formats")
    if problem := stand_in(opener, name, size):
        yield lost(name, 1, problem)
        return
    kind = compressed.split(name)[1]
    if kind == "gzip" and form.reader is web_archive:
        kind, form = None, Format(gzipped_web_archive)
    sound = compressed.checked(opener, kind, size) if kind is not None or checked else Soundness()
    if not sound.problem or (sound.usable and form.by_row):
        with opener() as raw, closing(compressed.opened(raw, kind)) as stream:
            whole = compressed.usable(stream, sound, form.by_line)
            if form.by_line and fields.encoding is None:
                head = whole.read(HEAD)
                if problem := marked_encoding(head):
                    yield lost(name, 1, problem)
                    return
                whole = joined(head, whole)
            try:
                for row in form.reader(name, recoded(whole, fields.encoding) if form.by_line else whole, fields):
                    if not (sound.problem and isinstance(row, Reject) and row.lost):  # reported below
                        yield row
            except UnicodeError as error:
                yield lost(name, 1, not_encoded(fields.encoding, error))
    if sound.problem:
        what = _KIND_NAMES.get(kind or "", "archive")
        yield lost(name, sound.line, f"damaged {what} file: {sound.problem}")


# -- text -------------------------------------------------------------------------------------------------------------


def text(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    raw = stream.read(records.MAX_BYTES + 1)
    if len(raw) > records.MAX_BYTES:
        reason = f"longer than {records.MAX_BYTES:,} bytes, the most for one document; divide it into several files"
        yield lost(name, 1, reason, excerpt(raw))
    else:
        yield whole_text(name, raw, encoding=fields.encoding)


# -- the web ----------------------------------------------------------------------------------------------------------


def wiki(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import (
        wiki as readers_wiki,
    )  # imported here because its libraries are large and rarely needed

    yield from readers_wiki.articles(name, stream, fields.seconds)


def web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import web

    with seekable(stream) as file:
        yield from web.plain(name, file, fields.seconds)


def gzipped_web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep.text.formats import web

    with seekable(stream) as file:
        yield from web.gzipped(name, file, fields.seconds)


# -- archives ---------------------------------------------------------------------------------------------------------


def _archive(opener: Opener, size: int, name: str, fields: Fields) -> Iterator[Row]:
    """The rows of an archive's files, by name, without hidden files and those of other formats, as for folders."""
    count, is_told = 0, False
    if problem := stand_in(opener, name, size):
        yield lost(name, 1, problem)
        return
    try:
        with members.archive(opener, size, name) as archive:
            for member in sorted(archive.members, key=lambda member: member.name):
                if member.hidden:
                    continue
                if _format(member.name) is None:
                    if fields.remarks is not None:
                        fields.remarks.left_out[suffix_of(member.name)] += 1
                    continue
                is_told |= member.is_cut
                for row in _member(name, member, fields, checked=name.lower().endswith(".zip")):
                    count += 1
                    yield row
            if archive.problem and not is_told:
                count += 1
                yield lost(name, 1, f"damaged archive: {archive.problem}")
    except DAMAGED as error:
        count += 1
        yield lost(name, 1, f"damaged archive: {error}")
    if not count:
        yield lost(name, 1, "the archive holds no file of a format that can be read")


def _member(name: str, member: members.Member, fields: Fields, checked: bool) -> Iterator[Row]:
    called = f"{name}/{member.path}"
    if member.outside:
        yield lost(name, 1, f"the member {member.name!r} would leave the archive")
    elif member.problem:
        yield lost(called, 1, member.problem)
    else:
        try:
            yield from _file(called, member.opener, member.packed, fields, checked)
        except DAMAGED as error:
            yield lost(called, 1, f"damaged archive: {error}")


FORMATS: dict[str, Format] = {
    ".txt": Format(text, by_row=False),
    ".text": Format(text, by_row=False),
    ".jsonl": Format(json_lines, by_line=True),
    ".ndjson": Format(json_lines, by_line=True),
    ".jsonlines": Format(json_lines, by_line=True),
    ".json": Format(json_values, by_line=True),
    ".csv": Format(comma_separated, by_line=True),
    ".tsv": Format(tab_separated, by_line=True),
    ".tab": Format(tab_separated, by_line=True),
    ".parquet": Format(parquet, by_row=False),
    ".arrow": Format(arrow),
    ".feather": Format(arrow),
    ".xml": Format(wiki),
    ".warc": Format(web_archive),
    ".wet": Format(web_archive),
}
