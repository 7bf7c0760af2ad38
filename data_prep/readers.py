"""Formats of documents: what one file holds, row by row.

A row that can be read is a `Document`, one that cannot is a `Reject` that says where and why; a row is one or the
other, and no bad row stops the reading.

    .txt               one document, called by its file
    .jsonl             one a line, called by its `id_field`, or FILE:LINE
    .csv .tsv          one a row below a header; quoted fields may hold line breaks
    .parquet .arrow    one a row (.arrow: the file and the stream format, such as Hugging Face data sets on disk)
    .gz .bz2 .zst .xz  behind any of these: the same, compressed; a damaged file is one reject and none of it is used
    .tar .zip          (.tar also compressed) each member as if it lay in a folder of the archive's name
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import compression
from data_prep.compression import DamagedError, Opener

MAX_BYTES = 1 << 26  # of one document; what is longer is no document, and is not held in memory
_EXCERPT = 80
_BATCH = 1024
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


def read(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    """Every row of a file, which documents call `name`."""
    try:
        if _is_archive(path.name):
            yield from _archive(path, name, fields)
        else:
            yield from _file(name, lambda: path.open("rb"), path.stat().st_size, fields)
    except OSError as error:
        yield Reject(name, 1, f"cannot be read: {error.strerror or error}")


def _format(name: str) -> str | None:
    base, _ = compression.split(name)
    return next((suffix for suffix in FORMATS if base.endswith(suffix)), None)


def _file(name: str, opener: Opener, size: int, fields: Fields, checked: bool = False) -> Iterator[Row]:
    """A file that `opener` opens; `checked`: whoever holds it has a check sum, which is to be compared first."""
    kind = compression.split(name)[1]
    try:
        if kind is not None or checked:
            compression.check(opener, kind, size)
    except DamagedError as damage:
        yield Reject(name, damage.line, f"damaged {_KIND_NAMES.get(kind or '', 'archive')} file: {damage}")
        return
    with opener() as raw, closing(compression.opened(raw, kind)) as stream:
        yield from FORMATS[_format(name) or ""](name, stream, fields)


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
        return Reject(name, line, _not_utf8(raw, error), _excerpt(raw[max(0, error.start - 20) :]))
    if not decoded.strip():
        return Reject(name, 1, "empty file")
    return Document(name, decoded, name, 1, meta or {})


class _Lines:
    """Lines of a stream with their numbers; a line over the limit is passed over and reported as None.

    Not a generator: it goes on after an exception that its consumer raises.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.number = 0
        self.long: bytes = b""  # how the last line began, if it was too long

    def __iter__(self) -> Iterator[bytes | None]:
        return self

    def __next__(self) -> bytes | None:
        raw = self.stream.readline(MAX_BYTES + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw) <= MAX_BYTES:
            return raw
        self.long = raw[: 4 * _EXCERPT]
        while raw and not raw.endswith(b"\n"):
            raw = self.stream.readline(1 << 20)
        return None


def json_lines(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    rows, lines = 0, _Lines(stream)
    for raw in lines:
        if raw is None:
            rows += 1
            yield _too_long(name, lines.number, lines.long)
        elif raw.strip():
            rows += 1
            yield _json_line(name, lines.number, raw, fields)
    if not rows:
        yield Reject(name, 1, "empty file")


def _json_line(name: str, line: int, raw: bytes, fields: Fields) -> Row:
    def reject(reason: str) -> Reject:
        return Reject(name, line, reason, _excerpt(raw))

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
    return _row(name, line, row, fields, _excerpt(raw))


def _row(name: str, position: int, row: dict[str, Any], fields: Fields, excerpt: str) -> Row:
    """A document of a row's fields; those of its text and its name are there."""

    def reject(reason: str) -> Reject:
        return Reject(name, position, reason, excerpt)

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
    document = Document(str(identity), value, name, position, meta)
    if not _is_unicode(document):
        return reject("holds half of a surrogate pair, which is not Unicode text")
    return document


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
        excerpt = _excerpt(delimiter.join(values)[:_EXCERPT].encode("utf-8", "surrogateescape"))
        if len(values) != len(header):
            yield Reject(name, start, f"expected {len(header)} fields as in the header, found {len(values)}", excerpt)
        elif any(not value.isascii() and _escaped(value) for value in values):
            yield Reject(name, start, "not UTF-8", excerpt)
        else:
            yield _row(name, start, dict(zip(header, values, strict=True)), fields, excerpt)
    if not rows:
        yield Reject(name, 1, "empty file" if header is None else "no row below the header")


def _escaped(value: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in value)


def parquet(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with _seekable(stream) as file:
        yield from _batches(name, fields, lambda: _parquet_batches(file))


def _parquet_batches(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    table = pq.ParquetFile(file)
    return table.schema_arrow, table.iter_batches(_BATCH)


def arrow(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Row]:
    with _seekable(stream) as file:
        yield from _batches(name, fields, lambda: _arrow_batches(file))


def _arrow_batches(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        table = pa.ipc.open_file(file)
        return table.schema, (table.get_batch(number) for number in range(table.num_record_batches))
    stream = pa.ipc.open_stream(file)
    return stream.schema, iter(stream)


def _batches(name: str, fields: Fields, opened: Callable[[], Any]) -> Iterator[Row]:
    position = 0
    try:
        schema, batches = opened()
        for key in filter(None, fields):
            if key not in schema.names:
                yield Reject(name, 1, f"no column {key!r}; found {', '.join(map(repr, schema.names)) or 'none'}")
                return
        kind = schema.field(fields.text).type
        if not _is_text(kind):
            yield Reject(name, 1, f"column {fields.text!r}: expected strings, found {kind}")
            return
        for batch in batches:
            for start in range(0, len(batch), _BATCH):
                part = batch.slice(start, _BATCH)
                part.validate(full=True)  # offsets and UTF-8; a file is not believed
                for row in part.to_pylist():
                    position += 1
                    excerpt = str(row[fields.text] or "")[:_EXCERPT]
                    yield _row(name, position, row, fields, excerpt)
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield Reject(name, position + 1, f"damaged file, not read from here on: {problem}")
        return
    if not position:
        yield Reject(name, 1, "empty file")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is a file on disk, else its bytes in a file that goes when it is closed."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
        return stream
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, file, 1 << 20)
    file.seek(0)
    return file  # type: ignore[return-value]


# -- archives ---------------------------------------------------------------------------------------------------------


def _is_archive(name: str) -> bool:
    return name.endswith(".zip") or compression.split(name)[0].endswith(".tar") or name.endswith(".tgz")


def _archive(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    count = 0
    try:
        for row in _zip(path, name, fields) if path.name.endswith(".zip") else _tar(path, name, fields):
            count += 1
            yield row
    except (zipfile.BadZipFile, tarfile.TarError, DamagedError, EOFError, zlib.error, ValueError) as error:
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


def _zip(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        members = [
            _Member(info.filename, info.compress_size, partial(archive.open, info), "encrypted" * (info.flag_bits & 1))  # type: ignore[arg-type]
            for info in files
        ]
        yield from _members(name, members, fields, checked=True)


def _tar(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    kind = "gzip" if path.name.endswith(".tgz") else compression.split(path.name)[1]
    compression.check(lambda: path.open("rb"), kind, path.stat().st_size)
    with (
        path.open("rb") as raw,
        closing(_seekable(compression.opened(raw, kind))) as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        files = [info for info in archive.getmembers() if not info.isdir()]
        problems = ["" if info.isfile() else "not a plain file" for info in files]
        members = [
            _Member(info.name, info.size, partial(archive.extractfile, info), problem)  # type: ignore[arg-type]
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
            except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: an unknown way of compressing
                yield Reject(called, 1, f"damaged archive: {error}")


# -- words ------------------------------------------------------------------------------------------------------------


def _too_long(name: str, position: int, raw: bytes) -> Reject:
    return Reject(name, position, f"longer than {MAX_BYTES:,} bytes", _excerpt(raw))


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


def _excerpt(raw: bytes) -> str:
    shown = raw[: 4 * _EXCERPT].decode("utf-8", "backslashreplace").strip()
    return shown if len(shown) <= _EXCERPT else shown[: _EXCERPT - 1] + "…"


FORMATS: dict[str, Reader] = {
    ".txt": text,
    ".jsonl": json_lines,
    ".csv": comma_separated,
    ".tsv": tab_separated,
    ".parquet": parquet,
    ".arrow": arrow,
}
