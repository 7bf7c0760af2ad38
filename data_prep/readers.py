"""Formats of documents: what one file holds, row by row.

A row that can be read is a `Document`, one that cannot is a `Reject` that says where and why; a row is one or the
other, and no bad row stops the reading.

    .txt               one document, called by its file
    .jsonl             one a line, called by its `id_field`, or FILE:LINE
    .csv .tsv          one a row below a header; quoted fields may hold line breaks
    .parquet .arrow    one a row (.arrow: the file and the stream format, such as Hugging Face data sets on disk)
    .xml               a MediaWiki dump: one an article, called FILE:PAGE-ID
    .warc .wet         a web archive: one a page, called FILE:RECORD-ID; behind .gz, damage costs a record, not the file
    .gz .bz2 .zst .xz  behind any of these: the same, compressed; a damaged file is one reject and none of it is used
    .tar .zip          (.tar also compressed) each member as if it lay in a folder of the archive's name
"""

from __future__ import annotations

import csv
import errno
import io
import json
import re
import resource
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import compression
from data_prep.compression import DamagedError, Opener
from data_prep.errors import UserError
from data_prep.readers_cuts import group_rows
from data_prep.readers_files import RemoteFile

MAX_BYTES = 1 << 26  # of one document; what is longer is no document, and is not held in memory
_EXCERPT = 80
_BATCH = 128  # rows of a table in memory: a file of few bytes may hold long ones
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENOUGH = 2 << 30  # bytes: no table's batch needs more
# Errors that say something of the file (no number: those of a library). All others are the machine's.
_OF_THE_FILE = (None, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
_KIND_NAMES = {"gzip": "gzip", "bz2": "bzip2", "zstd": "Zstandard", "xz": "xz"}


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its source holds it; `position` is the line or row where it starts, from 1."""

    name: str
    text: str
    source: str
    position: int
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that cannot be used: where it stands (file, line or row from 1), why, how it begins."""

    source: str
    position: int
    reason: str
    excerpt: str = ""


Row = Document | Reject


class Fields(NamedTuple):
    """Which field holds the text, and which one the document's name (none: its file and position)."""

    text: str = "text"
    identity: str | None = None


Reader = Callable[[str, BinaryIO, Fields], Iterator[Row]]


def readable(name: str) -> bool:
    """Whether a file of this name is of a format above."""
    return _is_archive(name) or _format(name) is not None


def cut_by(name: str) -> str | None:
    """What a file of this name can be cut by: "lines", "groups" (of a table's rows), or nothing."""
    return (
        {".jsonl": "lines", ".parquet": "groups"}.get(_format(name) or "")
        if compression.split(name)[1] is None
        else None
    )


def read(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    """Every row of a file here, which documents call `name`."""
    return read_opened(lambda: path.open("rb"), path.stat().st_size, name, fields)


def read_opened(opener: Opener, size: int, name: str, fields: Fields) -> Iterator[Row]:
    """Every row of a file that `opener` opens; the end of `name` says what it is."""
    try:
        if _is_archive(name):
            yield from _archive(opener, size, name, fields)
        else:
            yield from _file(name, opener, size, fields)
    except OSError as error:
        yield _unreadable(name, 1, error)
    except MemoryError as error:
        raise _out_of_memory(name) from error


def read_stretch(opener: Opener, name: str, fields: Fields, start: int, stop: int, first: int) -> Iterator[Row]:
    """The rows of a stretch of a file that `cut_by` names: of bytes or row groups [start, stop), `first` before it."""
    try:
        with opener() as raw:
            if cut_by(name) == "lines":
                raw.seek(start)
                stretch = io.BufferedReader(_Bounded(raw, stop - start), 1 << 16)
                yield from _json_rows(name, _Lines(stretch, first), fields)  # type: ignore[arg-type]
            else:
                yield from _table(name, fields, lambda: _parquet_groups(raw, start, stop), says=start == 0)
    except OSError as error:
        yield _unreadable(name, first + 1, error)
    except MemoryError as error:
        raise _out_of_memory(name) from error


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


def _unreadable(name: str, position: int, error: OSError) -> Reject:
    """What is wrong with a file. UserError where it is the machine's trouble: a row is not given up for that."""
    if not _is_the_files(error):
        raise UserError(f"{name} could not be read: {error.strerror}; mend that and run again") from error
    return Reject(name, position, f"cannot be read: {error.strerror or error}")


def _is_the_files(error: BaseException) -> bool:
    """Whether an error says something of a file, and not of the disk, the network or the memory."""
    if isinstance(error, MemoryError):  # a damaged length asks for more than anybody has
        unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
        return unlimited and psutil.virtual_memory().available > _ENOUGH
    return not isinstance(error, OSError) or error.errno in _OF_THE_FILE


def _out_of_memory(name: str) -> UserError:
    return UserError(f"{name} asks for more memory than there is: it is damaged, or placement.data_workers is too high")


def printable(name: str) -> str:
    """A name without bytes that are no text and without control characters, which are written out."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _format(name: str) -> str | None:
    base = compression.split(name)[0]
    return next((suffix for suffix in FORMATS if base.endswith(suffix)), None)


def _file(name: str, opener: Opener, size: int, fields: Fields, checked: bool = False) -> Iterator[Row]:
    """A file that `opener` opens; `checked`: whoever holds it has a check sum, which is to be compared first."""
    kind, reader = compression.split(name)[1], FORMATS[_format(name) or ""]
    if kind == "gzip" and reader is web_archive:
        kind, reader = None, gzipped_web_archive
    try:
        if kind is not None or checked:
            compression.check(opener, kind, size)
    except DamagedError as damage:
        yield Reject(name, damage.line, f"damaged {_KIND_NAMES.get(kind or '', 'archive')} file: {damage}")
        return
    with opener() as raw, closing(compression.opened(raw, kind)) as stream:
        yield from reader(name, stream, fields)


# -- text -------------------------------------------------------------------------------------------------------------


def text(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    raw = stream.read(MAX_BYTES + 1)
    yield _too_long(name, 1, raw) if len(raw) > MAX_BYTES else whole_text(name, raw)


def whole_text(name: str, raw: bytes, meta: dict[str, Any] | None = None) -> Row:
    """The bytes of a text file as one document."""
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Reject(name, line, _not_utf8(raw, error), excerpt(raw[max(0, error.start - 20) :]))
    if not decoded.strip():
        return Reject(name, 1, "empty file")
    return Document(name, decoded, name, 1, meta or {})


class _Lines:
    """Lines of a stream with their numbers; a line over the limit is passed over and reported as None.

    Not a generator: it goes on after an exception that its consumer raises.
    """

    def __init__(self, stream: BinaryIO, first: int = 0) -> None:
        self.stream = stream
        self.number = first
        self.long: bytes = b""  # how the last line began, if it was too long

    def __iter__(self) -> Iterator[bytes | None]:
        return self

    def __next__(self) -> bytes | None:
        raw = self.stream.readline(MAX_BYTES + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) <= MAX_BYTES:
            return raw.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else raw
        self.long = raw[: 4 * _EXCERPT]
        while raw and not raw.endswith(b"\n"):
            raw = self.stream.readline(1 << 20)
        return None


def json_lines(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    rows = 0
    for rows, row in enumerate(_json_rows(name, _Lines(stream), fields), 1):  # noqa: B007
        yield row
    if not rows:
        yield Reject(name, 1, "empty file")


def _json_rows(name: str, lines: _Lines, fields: Fields) -> Iterator[Row]:
    for raw in lines:
        if raw is None:
            yield _too_long(name, lines.number, lines.long)
        elif raw.strip():
            yield _json_line(name, lines.number, raw, fields)


def _json_line(name: str, line: int, raw: bytes, fields: Fields) -> Row:
    def reject(reason: str) -> Reject:
        return Reject(name, line, reason, excerpt(raw))

    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=lambda _: None)
    except UnicodeDecodeError as error:
        return reject(_not_utf8(raw, error))
    except json.JSONDecodeError as error:
        return reject(f"not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return reject(f"not JSON that can be read: {error}")
    if not isinstance(row, dict):
        return reject(f"expected a JSON object, found {_json_type(row)}")
    for key in filter(None, fields):
        if key not in row:
            return reject(f"no field {key!r}; found {', '.join(map(repr, row)) or 'none'}")
    return _row(name, line, row, fields, excerpt(raw))


def _row(name: str, position: int, row: dict[str, Any], fields: Fields, begin: str) -> Row:
    """A document of a row's fields; those of its text and its name are there."""

    def reject(reason: str) -> Reject:
        return Reject(name, position, reason, begin)

    value = row.pop(fields.text)
    if not isinstance(value, str):
        return reject(f"field {fields.text!r}: expected a string, found {_json_type(value)}")
    if not value.strip():
        return reject(f"field {fields.text!r} is empty")
    if len(value) > MAX_BYTES:
        return reject(f"longer than {MAX_BYTES:,} characters")
    identity = f"{name}:{position}" if fields.identity is None else row.pop(fields.identity, value)
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        return reject(f"field {fields.identity!r}: expected a name, found {_json_type(identity)}")
    meta = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
    return checked(Document(str(identity), value, name, position, meta), begin)


# -- tables -----------------------------------------------------------------------------------------------------------


def comma_separated(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    return _separated(name, stream, fields, ",")


def tab_separated(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    return _separated(name, stream, fields, "\t")


class _TooLongError(Exception):
    pass


def _separated(name: str, stream: BinaryIO, fields: Fields, delimiter: str) -> Iterator[Row]:
    lines = _Lines(stream)

    class Text:
        def __iter__(self) -> Text:
            return self

        def __next__(self) -> str:
            raw = next(lines)
            if raw is None:
                raise _TooLongError
            return raw.decode("utf-8", "surrogateescape")

    csv.field_size_limit(MAX_BYTES)
    table, header, rows = csv.reader(Text(), delimiter=delimiter, strict=True), None, 0
    while True:
        start = lines.number + 1
        try:
            values = next(table)
        except StopIteration:
            break
        except _TooLongError:
            rows += 1
            yield _too_long(name, lines.number, lines.long)
            continue
        except csv.Error as error:
            rows += 1
            yield Reject(name, start, f"not {'CSV' if delimiter == ',' else 'TSV'}: {error}")
            continue
        if not values:
            continue
        if header is None:
            header = values
            missing = [key for key in filter(None, fields) if key not in header]
            if missing:
                yield Reject(name, start, f"no column {missing[0]!r}; found {', '.join(map(repr, header))}")
                return
            continue
        rows += 1
        begin = excerpt(delimiter.join(values)[:_EXCERPT].encode("utf-8", "surrogateescape"))
        if len(values) != len(header):
            yield Reject(name, start, f"expected {len(header)} fields as in the header, found {len(values)}", begin)
        elif any(not value.isascii() and _escaped(value) for value in values):
            yield Reject(name, start, "not UTF-8", begin)
        else:
            yield _row(name, start, dict(zip(header, values, strict=True)), fields, begin)
    if not rows:
        yield Reject(name, 1, "empty file" if header is None else "no row below the header")


def _escaped(value: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in value)


class _Group(NamedTuple):
    """Rows of a table that damage spoils together: `first` come before, `count` should be there, if that is known."""

    what: str
    first: int
    count: int | None
    batches: Iterator[pa.RecordBatch]


def parquet(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with _seekable(stream) as file:
        yield from _table(name, fields, lambda: _parquet_groups(file))


def _parquet_groups(file: BinaryIO, start: int = 0, stop: int | None = None) -> tuple[pa.Schema, Iterator[_Group]]:
    table = pq.ParquetFile(file)
    schema, counts = table.schema_arrow, group_rows(table.metadata)
    columns = [field.name for field in schema if _is_value(field.type)]
    firsts = list(accumulate(counts, initial=0))

    def groups() -> Iterator[_Group]:
        for number in range(len(counts))[start:stop]:
            batches = table.iter_batches(_BATCH, row_groups=[number], columns=columns)
            yield _Group("row group", firsts[number], counts[number], batches)

    return schema, groups()


def arrow(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with _seekable(stream) as file:
        yield from _table(name, fields, lambda: _arrow_groups(file))


def _arrow_groups(file: BinaryIO) -> tuple[pa.Schema, Iterator[_Group]]:
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        table = pa.ipc.open_file(file)
        schema, batches = table.schema, (table.get_batch(number) for number in range(table.num_record_batches))
    else:
        stream = pa.ipc.open_stream(file)
        schema, batches = stream.schema, iter(stream)
    return schema, iter([_Group("file", 0, None, batches)])


def _table(
    name: str, fields: Fields, opened: Callable[[], tuple[pa.Schema, Iterator[_Group]]], says: bool = True
) -> Iterator[Row]:
    """The rows of a table's groups; `says`: what is wrong with the table as a whole is said here."""
    read = 0
    try:
        schema, groups = opened()
        problem = _missing(schema, fields)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if not _is_the_files(error):
            raise
        yield Reject(name, 1, f"damaged file, not read from here on: {first_line(error)}")
        return
    if problem:
        if says:
            yield Reject(name, 1, problem)
        return
    for group in groups:
        position = group.first
        try:
            for batch in group.batches:
                for row in _table_rows(batch):
                    position += 1
                    read += 1
                    yield _row(name, position, row, fields, str(row[fields.text] or "")[:_EXCERPT])
            if group.count is not None and position - group.first != group.count:
                raise ValueError(f"it should hold {group.count} rows")
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            if not _is_the_files(error):
                raise
            read += 1
            yield Reject(name, position + 1, f"damaged {group.what}, not read from here on: {first_line(error)}")
    if not read and says:
        yield Reject(name, 1, "empty file")


def _missing(schema: pa.Schema, fields: Fields) -> str | None:
    for key in filter(None, fields):
        if key not in schema.names:
            return f"no column {key!r}; found {', '.join(map(repr, schema.names)) or 'none'}"
        if schema.names.count(key) > 1:
            return f"more than one column is called {key!r}"
        if not _is_value(schema.field(key).type):
            return f"column {key!r}: expected strings, found {schema.field(key).type}"
    kind = schema.field(fields.text).type
    return None if _is_text(kind) else f"column {fields.text!r}: expected strings, found {kind}"


def _table_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    for start in range(0, len(batch), _BATCH):
        part = batch.slice(start, _BATCH)
        part.validate(full=True)  # offsets and UTF-8; a file is not believed
        columns = {field.name: part.column(i) for i, field in enumerate(part.schema) if _is_value(field.type)}
        for values in zip(*(column.to_pylist() for column in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))


def _is_value(kind: pa.DataType) -> bool:
    """Whether a column may hold what a document keeps: text, numbers, booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return _is_text(kind) or any(check(kind) for check in checks)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is a file where it lies, else its bytes in a file that goes when it is closed."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO | RemoteFile):
        return stream
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, file, 1 << 20)
    file.seek(0)
    return file  # type: ignore[return-value]


# -- the web ----------------------------------------------------------------------------------------------------------


def wiki(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep import readers_wiki  # only now: its libraries are large, and few need them

    yield from readers_wiki.articles(name, stream)


def web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep import readers_web

    with _seekable(stream) as file:
        yield from readers_web.plain(name, file)


def gzipped_web_archive(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    from data_prep import readers_web

    with _seekable(stream) as file:
        yield from readers_web.gzipped(name, file)


# -- archives ---------------------------------------------------------------------------------------------------------


def _is_archive(name: str) -> bool:
    return name.endswith(".zip") or compression.split(name)[0].endswith(".tar") or name.endswith(".tgz")


# ValueError: also an absurd number in a header; NotImplementedError: a way of compressing that is not known.
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
        for row in _zip(opener, name, fields) if name.endswith(".zip") else _tar(opener, size, name, fields):
            count += 1
            yield row
    except _DAMAGED_ARCHIVE as error:
        count += 1
        yield Reject(name, 1, f"damaged archive: {error}")
    if not count:
        yield Reject(name, 1, "the archive holds no file of a format that can be read")


class _Member(NamedTuple):
    """One file of an archive; `problem`: why it cannot be read, if it cannot."""

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
    kind = "gzip" if name.endswith(".tgz") else compression.split(name)[1]
    compression.check(opener, kind, size)
    with (
        opener() as raw,
        closing(_seekable(compression.opened(raw, kind))) as stream,
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
    """The rows of an archive's files, by name; hidden ones and those of other formats are left out, as in a folder."""
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


# -- words ------------------------------------------------------------------------------------------------------------


def _too_long(name: str, position: int, raw: bytes) -> Reject:
    return Reject(name, position, f"longer than {MAX_BYTES:,} bytes", excerpt(raw))


def checked(document: Document, begin: str) -> Row:
    """The document, if it is Unicode text; `begin`: how its row begins."""
    if _is_unicode(document):
        return document
    reason = "holds half of a surrogate pair, which is not Unicode text"
    return Reject(document.source, document.position, reason, begin)


def _is_unicode(document: Document) -> bool:
    texts = [document.name, document.text, *document.meta]
    texts += [value for value in document.meta.values() if isinstance(value, str)]
    try:
        for value in texts:
            value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "an empty string"}
    kinds = {list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value)) or names.get(type(value)) or f"a {type(value).__name__}"


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"


def excerpt(raw: bytes) -> str:
    """How a row begins, for people to find it."""
    shown = raw[: 4 * _EXCERPT].decode("utf-8", "backslashreplace").strip()
    return shown if len(shown) <= _EXCERPT else shown[: _EXCERPT - 1] + "…"


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
