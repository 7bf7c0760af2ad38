"""Where documents come from: a registered package, or a user's text and JSON-lines files.

A source is listed before it is read: `snapshot` names its files with size and modification time (a
package by the digest of its archive, without downloading anything) and `digest` turns the listing
into the digest of what the files hold. Then `documents` reads it row by row. What can be read is a
`Document`, what cannot is a `Reject` that says where and why; a row is one or the other, and no bad
row stops the reading.

    .txt              one document, called LABEL/relative/path.txt
    .jsonl            one document a line, called by its `id_field`, or LABEL/relative/path:LINE
    .txt.gz .jsonl.gz the same, compressed; a damaged file is one reject, and none of it is used

LABEL is the name of the package, of the folder, or of what holds a glob's files; a single file has
none.
"""

from __future__ import annotations

import difflib
import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from data_prep import packages
from data_prep.errors import UserError

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
_EXCERPT = 80


class SourceConfig(BaseModel):
    """One source of documents: exactly one of `package` and `path`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    package: str | None = None
    """Name of a registered package."""
    path: str | None = None
    """A file, a folder (read recursively, by name) or a glob; `~` is the home folder."""
    text_field: str = "text"
    """Which field of a JSON line holds the text."""
    id_field: str | None = None
    """Which field of a JSON line names the document; without it the file and the line number do."""
    licence: str | None = None
    """Licence of the user's own files, for the records."""

    @model_validator(mode="after")
    def _one_of_two(self) -> SourceConfig:
        if (self.package is None) == (self.path is None):
            found = "neither" if self.package is None else "both"
            raise ValueError(f"a source takes either 'package' or 'path'; found {found}")
        if self.package is not None and self.package not in packages.PACKAGES:
            near = difflib.get_close_matches(self.package, packages.PACKAGES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(packages.PACKAGES)
            raise ValueError(f"no package is called {self.package!r}, registered are {known}{hint}")
        return self


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its source holds it; `position` is the line where it starts, from 1."""

    name: str
    text: str
    source: str
    position: int
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that cannot be used: where it stands (file, line from 1), why, how it begins."""

    source: str
    position: int
    reason: str
    excerpt: str = ""


class SnapshotEntry(NamedTuple):
    """One file of a snapshot.

    `stamp` is its modification time in ns, or `sha256:…` where the contents are known.
    """

    uri: str
    size: int
    stamp: str
    name: str
    """How documents refer to the file: the same on every machine."""


class _File(NamedTuple):
    path: Path
    name: str


def snapshot(sources: Iterable[SourceConfig], downloads: Path | None = None) -> list[SnapshotEntry]:
    """List the files of the sources without reading them; nothing is downloaded.

    Raises `UserError` for a path that holds nothing to read.
    """
    entries = []
    for source in sources:
        if source.package is not None:
            package = packages.lookup(source.package)
            uri = f"{package.client}:{package.requirement}"
            entries.append(SnapshotEntry(uri, package.size, f"sha256:{package.sha256}", source.package))
            continue
        for path, name in _files(source):
            status = path.stat()
            entries.append(SnapshotEntry(str(path), status.st_size, str(status.st_mtime_ns), name))
    return entries


def digest(entries: Iterable[SnapshotEntry], downloads: Path | None = None) -> str:
    """Digest of the names and contents of what a snapshot lists, as 32 hex digits.

    Where a file lies, and when it was written, do not enter. With `downloads`, the digest of each
    file is kept in `digests.json` there, by (uri, size, stamp), and a file that has not changed is
    not read again.
    """
    cache_path = None if downloads is None else Path(downloads) / "digests.json"
    cache = _read_cache(cache_path)
    total = hashlib.blake2b(digest_size=16)
    fresh = {}
    for entry in entries:
        content = entry.stamp
        if not content.startswith("sha256:"):
            key = json.dumps([entry.uri, entry.size, entry.stamp])
            content = cache.get(key) or fresh.get(key) or _digest_file(Path(entry.uri))
            if key not in cache:
                fresh[key] = content
        total.update(json.dumps([entry.name, content]).encode())
    if cache_path is not None and fresh:
        cache_path.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache_path.with_name(f".{cache_path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(cache | fresh, indent=0), encoding="utf-8")
        temporary.replace(cache_path)
    return total.hexdigest()


def _read_cache(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    with suppress(ValueError):  # a damaged cache is an empty one
        cache = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(cache, dict):
            return cache
    return {}


def _digest_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend it or leave it out") from error


def licence(source: SourceConfig) -> str:
    """The licence of a source as one line, for the records of what is made of it."""
    if source.package is not None:
        return f"{source.package}: {packages.lookup(source.package).licence}"
    return f"{source.path}: {source.licence or 'not stated'}"


def documents(source: SourceConfig, downloads: Path) -> Iterator[Document | Reject]:
    """Every row of a source, in the order of file names and lines.

    A package is downloaded if it is not there yet.
    """
    if source.package is not None:
        yield from _package_documents(source.package, downloads)
        return
    for file in _files(source):
        try:
            if file.path.name.endswith(".gz"):
                _check_gzip(file.path)
            if file.path.name.removesuffix(".gz").endswith(".jsonl"):
                yield from _json_lines(file, source)
            else:
                yield _text(file, _read(file.path))
        except _DamagedError as damage:
            yield Reject(file.name, damage.line, f"damaged gzip file: {damage}")
        except OSError as error:
            yield Reject(file.name, 1, f"cannot be read: {error.strerror or error}")


def _package_documents(name: str, downloads: Path) -> Iterator[Document | Reject]:
    package = packages.lookup(name)
    folder = packages.fetch(name, downloads)
    meta = package.meta(folder)
    for path in sorted(folder.glob(package.members)):
        row = _text(_File(path, f"{name}/{path.stem}"), path.read_bytes(), meta.get(path.stem))
        if isinstance(row, Document):
            row = Document(row.name, package.text(row.text), row.source, row.position, row.meta)
        yield row


def _text(file: _File, raw: bytes, meta: dict[str, Any] | None = None) -> Document | Reject:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Reject(file.name, line, _not_utf8(raw, error), _excerpt(raw[max(0, error.start - 20) :]))
    if not text.strip():
        return Reject(file.name, 1, "empty file")
    return Document(file.name, text, file.name, 1, meta or {})


def _json_lines(file: _File, source: SourceConfig) -> Iterator[Document | Reject]:
    rows = 0
    with _open(file.path) as stream:
        for line, raw in enumerate(stream, 1):
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                rows += 1
                yield _json_line(file.name, line, raw, source)
    if not rows:
        yield Reject(file.name, 1, "empty file")


def _json_line(name: str, line: int, raw: bytes, source: SourceConfig) -> Document | Reject:
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
    fields = [source.text_field] if source.id_field is None else [source.text_field, source.id_field]
    for key in fields:
        if key not in row:
            return reject(f"no field {key!r}; found {', '.join(map(repr, row)) or 'none'}")
    text = row.pop(source.text_field)
    if not isinstance(text, str):
        return reject(f"field {source.text_field!r}: expected a string, found {_json_type(text)}")
    if not text.strip():
        return reject(f"field {source.text_field!r} is empty")
    identity = f"{name}:{line}" if source.id_field is None else row.pop(source.id_field)
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        return reject(f"field {source.id_field!r}: expected a name, found {_json_type(identity)}")
    meta = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
    document = Document(str(identity), text, name, line, meta)
    if not _is_unicode(document):
        return reject("holds half of a surrogate pair, which is not Unicode text")
    return document


def _is_unicode(document: Document) -> bool:
    texts = [document.name, document.text, *document.meta]
    texts += [value for value in document.meta.values() if isinstance(value, str)]
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "an empty string"}
    return {list: "a list", dict: "an object", type(None): "null"}.get(type(value)) or names[type(value)]


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"


def _excerpt(raw: bytes) -> str:
    text = raw[: 4 * _EXCERPT].decode("utf-8", "backslashreplace").strip()
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


class _DamagedError(Exception):
    def __init__(self, error: BaseException, line: int) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.line = line


def _check_gzip(path: Path) -> None:
    """Read a compressed file to its end, where its check sum is; until then nothing is certain."""
    line = 1
    try:
        with gzip.open(path, "rb") as stream:
            while chunk := stream.read(1 << 16):
                line += chunk.count(b"\n")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _DamagedError(error, line) from error


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def _read(path: Path) -> bytes:
    with _open(path) as stream:
        return stream.read()


def _files(source: SourceConfig) -> list[_File]:
    """The files of a `path` source, sorted by name, hidden ones left out."""
    if source.path is None:
        raise ValueError("a package has no files of the user's")
    path = Path(source.path).expanduser()
    allowed = ", ".join(SUFFIXES)
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise UserError(f"{path} is not a file that can be read; its name must end in one of {allowed}")
        return [_File(path, _printable(path.name))]
    if path.is_dir():
        root, found = path, list(path.rglob("*"))
    elif glob.has_magic(source.path):
        root = _without_magic(path)
        found = [Path(name) for name in glob.iglob(str(path), recursive=True)]  # noqa: PTH207  (** finds files)
    else:
        raise UserError(f"{path} does not exist; give a file, a folder or a glob")
    label = root.resolve().name
    files = []
    for file in found:
        relative = file.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and file.name.endswith(SUFFIXES) and file.is_file():
            files.append(_File(file, _printable(str(Path(label, relative).as_posix()))))
    if not files:
        raise UserError(f"{source.path} holds no file whose name ends in one of {allowed}")
    return sorted(files, key=lambda file: file.name)


def _without_magic(path: Path) -> Path:
    """The part of a glob before its first wildcard."""
    parts = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
