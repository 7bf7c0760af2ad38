"""Results and helpers shared by all readers: documents, rejects, and converting a row to one of them."""

from __future__ import annotations

import codecs
import errno
import io
import re
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple, cast

import psutil

from data_prep.errors import UserError
from data_prep.sources.files import RemoteFile

MAX_BYTES = 1 << 26  # maximum size of a document; a longer one is rejected without being held in memory
EXCERPT = 80
HEAD = 10  # bytes of a file that `marked_encoding` looks at
_PACKED = {
    b"\x1f\x8b": ".gz",
    b"BZh91AY&SY": ".bz2",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xfd7zXZ\0": ".xz",
    b"PK\3\4": ".zip",
}
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENOUGH = 2 << 30  # bytes; no batch of a table needs more
# Errors that are caused by the file (None: raised by a library). All others are caused by the machine.
_OF_THE_FILE = (None, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it is in its source; `position` is the line or row where it starts, from 1."""

    name: str
    text: str
    source: str
    position: int
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that cannot be used: its location (file, line or row from 1), the reason, and an excerpt."""

    source: str
    position: int
    reason: str
    excerpt: str = ""
    lost: bool = False
    """Whether it stands for an unknown number of rows: the rest of the file, or the file."""


Row = Document | Reject


@dataclass
class Remarks:
    """What readers tell besides rows."""

    left_out: Counter[str] = field(default_factory=Counter)
    """Numbers of files in archives that are not read, by suffix."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Names of files, and what is odd about how they are written."""


class Fields(NamedTuple):
    """The fields with the text and with the document's name (None: named by file and position)."""

    text: str = "text"
    identity: str | None = None
    encoding: str | None = None
    """Encoding of files that are not UTF-8."""
    delimiter: str | None = None
    """What parts the columns of separated values, if that is known."""
    seconds: int | None = None
    """Seconds of processing, the most for one document with markup."""
    remarks: Remarks | None = None
    """Where readers tell more than rows."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The fields that every row must have."""
        return (self.text,) if self.identity is None else (self.text, self.identity)


Reader = Callable[[str, BinaryIO, Fields], Iterator[Row]]


def whole_text(name: str, raw: bytes, meta: dict[str, Any] | None = None, encoding: str | None = None) -> Row:
    """The bytes of a text file as one document; `encoding`: that of a file that is not UTF-8."""
    try:
        decoded = decoded_text(raw, encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Reject(name, line, wrongly_encoded(raw, error), excerpt(raw[max(0, error.start - 20) :]))
    if not decoded.strip():
        return Reject(name, 1, "empty file")
    return Document(name, decoded, name, 1, meta or {})


class Lines:
    """Lines of a stream with their numbers; a line over the limit is skipped and reported as None.

    Not a generator, so that iteration can continue after an exception in the consumer.
    """

    def __init__(self, stream: BinaryIO, first: int = 0) -> None:
        self.stream = stream
        self.number = first
        self.long: bytes = b""  # the beginning of the last line, if it was too long
        self._ahead: list[bytes] = []

    def __iter__(self) -> Iterator[bytes | None]:
        return self

    def put_back(self, line: bytes) -> None:
        """Let `line`, the last one, be the next one, too."""
        self._ahead.append(line)
        self.number -= 1

    @property
    def ahead(self) -> int:
        """Bytes that were read from the stream and put back."""
        return sum(map(len, self._ahead))

    def __next__(self) -> bytes | None:
        if self._ahead:
            self.number += 1
            return self._ahead.pop()
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
    """A document from a row that has the fields of text and name."""

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
    meta: dict[str, Any] = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
    return checked(Document(str(identity), value, name, position, meta), begin)


def too_long(name: str, position: int, raw: bytes) -> Reject:
    return Reject(name, position, f"longer than {MAX_BYTES:,} bytes", excerpt(raw))


def lost(name: str, position: int, reason: str, begin: str = "") -> Reject:
    """A reject for a file that cannot be read, or not from `position` on."""
    return Reject(name, position, reason, begin, lost=True)


def checked(document: Document, begin: str) -> Row:
    """The document, or a reject if its name or text is not Unicode; `begin`: the beginning of its row, for the excerpt.

    Other fields, which nobody asked for, cost no row: what is not Unicode in them is escaped.
    """
    if not is_unicode(document.name) or not is_unicode(document.text):
        reason = "holds half of a surrogate pair, which is not Unicode text"
        return Reject(document.source, document.position, reason, begin)
    texts = [*document.meta, *(value for value in document.meta.values() if isinstance(value, str))]
    if all(map(is_unicode, texts)):
        return document
    meta = {_escaped(key): _escaped(value) if isinstance(value, str) else value for key, value in document.meta.items()}
    return replace(document, meta=meta)


def is_unicode(text: str) -> bool:
    """False for a text with half a surrogate pair, or with undecoded bytes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_bytes(text: str) -> bool:
    """Whether a text that was decoded with "surrogateescape" holds bytes that are not UTF-8."""
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string" if value else "an empty string"}
    kinds = {list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value)) or names.get(type(value)) or f"a {type(value).__name__}"


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"


def wrongly_encoded(raw: bytes, error: UnicodeDecodeError) -> str:
    """Why a text file cannot be decoded, and what to do about it."""
    if error.encoding.replace("-", "_").lower() not in ("utf_8", "utf_8_sig", "utf8"):
        return f"neither UTF-8 nor {error.encoding} ({error.reason} at offset {error.start}); set another encoding"
    return marked_encoding(raw) or f"{not_utf8(raw, error)}; set the encoding of its source, such as cp1252"


def marked_encoding(raw: bytes) -> str:
    """What to do about a file that is no UTF-8 and begins with the mark of something else; "" if it does not."""
    if ending := next((ending for mark, ending in _PACKED.items() if raw.startswith(mark)), None):
        return f"not text but packed as a {ending} file is; give it that ending"
    mark = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
    if mark is None and len(raw) >= 4:  # without its mark, but with ASCII characters
        zeros = [byte == 0 for byte in raw[:4]]
        mark = "utf-16-le" if zeros == [False, True] * 2 else "utf-16-be" if zeros == [True, False] * 2 else None
        return f"not UTF-8, by its NUL characters; set the encoding of its source: {mark}" if mark else ""
    return f"not UTF-8: byte 0x{raw[0]:02x} at offset 0; set the encoding of its source: {mark}" if mark else ""


def not_encoded(encoding: str | None, error: UnicodeError) -> str:
    """Why a file cannot be decoded at all, and what to do about it."""
    return f"not {encoding} ({first_line(error)}); set another encoding of its source"


def decoded_text(raw: bytes, encoding: str | None) -> str:
    """The text of a file that is UTF-8, or else has the encoding. Raises UnicodeDecodeError."""
    if encoding is not None and not extends_ascii(encoding):
        return raw.decode(encoding).removeprefix("\ufeff")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if encoding is None:
            raise
        return raw.decode(encoding)


@lru_cache
def extends_ascii(encoding: str) -> bool:
    """Whether ASCII characters are the same bytes in an encoding, so that lines can be separated."""
    return bytes(range(128)).decode(encoding, "replace").encode("ascii", "replace") == bytes(range(128))


def recoded(stream: BinaryIO, encoding: str | None) -> BinaryIO:
    """A stream of lines as UTF-8: lines that are not UTF-8 already are decoded from `encoding`.

    Bytes that cannot be decoded stay as they are, and cost their line; UnicodeDecodeError if lines cannot be separated.
    """
    return stream if encoding is None else cast(BinaryIO, io.BufferedReader(_Recoded(stream, encoding), 1 << 16))


class _Recoded(io.RawIOBase):
    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream, self._encoding, self._ready = stream, encoding, b""
        self._whole = None if extends_ascii(encoding) else codecs.getincrementaldecoder(encoding)()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if self._whole is not None:
                data = self._stream.read(1 << 16)
                self._ready = self._whole.decode(data, final=not data).encode("utf-8", "surrogatepass")
            else:
                data = self._stream.readline(MAX_BYTES + 1)
                self._ready = self._line(data)
            if not data:
                break
        given = self._ready[: len(buffer)]
        self._ready = self._ready[len(given) :]
        buffer[: len(given)] = given
        return len(given)

    def _line(self, raw: bytes) -> bytes:
        for encoding in ("utf-8", self._encoding):
            with suppress(UnicodeDecodeError):
                return raw.decode(encoding).encode("utf-8", "surrogatepass")
        return raw


def excerpt(raw: bytes) -> str:
    """The beginning of a row, to help users find it."""
    shown = raw[: 4 * EXCERPT].decode("utf-8", "backslashreplace").strip()
    return shown if len(shown) <= EXCERPT else shown[: EXCERPT - 1] + "…"


# -- files and errors -------------------------------------------------------------------------------------------------


def joined(ahead: bytes, stream: BinaryIO) -> BinaryIO:
    """Bytes that were read ahead, followed by the rest of their stream."""
    return cast(BinaryIO, io.BufferedReader(_Joined(ahead, stream), 1 << 16))


class _Joined(io.RawIOBase):
    def __init__(self, ahead: bytes, stream: BinaryIO) -> None:
        self._ahead, self._stream = io.BytesIO(ahead), stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._ahead.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is seekable, else a temporary file with its bytes."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO | RemoteFile):
        return stream
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, file, 1 << 20)
    file.seek(0)
    return file  # type: ignore[return-value]


def unreadable(name: str, position: int, error: OSError) -> Reject:
    """A reject for a file that cannot be read. Raises UserError if the machine is at fault instead of the file."""
    if not is_the_files(error):
        raise UserError(f"{name} could not be read: {error.strerror}; mend that and run again") from error
    return lost(name, position, f"cannot be read: {error.strerror or error}")


def is_the_files(error: BaseException) -> bool:
    """Whether an error is caused by a file, and not by the disk, the network or the memory."""
    if isinstance(error, MemoryError):  # a damaged length field requests an impossible allocation
        unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
        return unlimited and psutil.virtual_memory().available > _ENOUGH
    return not isinstance(error, OSError) or error.errno in _OF_THE_FILE


def out_of_memory(name: str) -> UserError:
    return UserError(f"{name} asks for more memory than there is: it is damaged, or placement.data_workers is too high")


def printable(name: str) -> str:
    """A name with undecodable bytes and control characters escaped."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def first_line(error: BaseException) -> str:
    """The message of an exception, as one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
