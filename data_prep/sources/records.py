"""What every reader gives, and what they share: documents, rejects, and how a row becomes one of them."""

from __future__ import annotations

import errno
import io
import re
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import psutil

from data_prep.errors import UserError
from data_prep.sources.files import RemoteFile

MAX_BYTES = 1 << 26  # of one document; what is longer is no document, and is not held in memory
EXCERPT = 80
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENOUGH = 2 << 30  # bytes: no table's batch needs more
# Errors that say something of the file (no number: those of a library). All others are the machine's.
_OF_THE_FILE = (None, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


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


def whole_text(name: str, raw: bytes, meta: dict[str, Any] | None = None) -> Row:
    """The bytes of a text file as one document."""
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Reject(name, line, not_utf8(raw, error), excerpt(raw[max(0, error.start - 20) :]))
    if not decoded.strip():
        return Reject(name, 1, "empty file")
    return Document(name, decoded, name, 1, meta or {})


class Lines:
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
        self.long = raw[: 4 * EXCERPT]
        while raw and not raw.endswith(b"\n"):
            raw = self.stream.readline(1 << 20)
        return None


def row_of(name: str, position: int, row: dict[str, Any], fields: Fields, begin: str) -> Row:
    """A document of a row's fields; those of its text and its name are there."""

    def reject(reason: str) -> Reject:
        return Reject(name, position, reason, begin)

    value = row.pop(fields.text)
    if not isinstance(value, str):
        return reject(f"field {fields.text!r}: expected a string, found {json_type(value)}")
    if not value.strip():
        return reject(f"field {fields.text!r} is empty")
    if len(value) > MAX_BYTES:
        return reject(f"longer than {MAX_BYTES:,} characters")
    identity = f"{name}:{position}" if fields.identity is None else row.pop(fields.identity, value)
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        return reject(f"field {fields.identity!r}: expected a name, found {json_type(identity)}")
    meta = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
    return checked(Document(str(identity), value, name, position, meta), begin)


def too_long(name: str, position: int, raw: bytes) -> Reject:
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


def json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "an empty string"}
    kinds = {list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value)) or names.get(type(value)) or f"a {type(value).__name__}"


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"


def excerpt(raw: bytes) -> str:
    """How a row begins, for people to find it."""
    shown = raw[: 4 * EXCERPT].decode("utf-8", "backslashreplace").strip()
    return shown if len(shown) <= EXCERPT else shown[: EXCERPT - 1] + "…"


# -- files and their troubles -----------------------------------------------------------------------------------------


def seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is a file where it lies, else its bytes in a file that goes when it is closed."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO | RemoteFile):
        return stream
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, file, 1 << 20)
    file.seek(0)
    return file  # type: ignore[return-value]


def unreadable(name: str, position: int, error: OSError) -> Reject:
    """What is wrong with a file. UserError where it is the machine's trouble: a row is not given up for that."""
    if not is_the_files(error):
        raise UserError(f"{name} could not be read: {error.strerror}; mend that and run again") from error
    return Reject(name, position, f"cannot be read: {error.strerror or error}")


def is_the_files(error: BaseException) -> bool:
    """Whether an error says something of a file, and not of the disk, the network or the memory."""
    if isinstance(error, MemoryError):  # a damaged length asks for more than anybody has
        unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
        return unlimited and psutil.virtual_memory().available > _ENOUGH
    return not isinstance(error, OSError) or error.errno in _OF_THE_FILE


def out_of_memory(name: str) -> UserError:
    return UserError(f"{name} asks for more memory than there is: it is damaged, or placement.data_workers is too high")


def printable(name: str) -> str:
    """A name without bytes that are no text and without control characters, which are written out."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
