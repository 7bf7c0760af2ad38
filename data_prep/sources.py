"""Where documents come from: a registered package, or a user's files.

A source is listed before it is read: `snapshot` names its files with size and modification time (a
package by the digest of its archive, without downloading anything) and `digest` turns the listing
into the digest of what the files hold. Then `documents` reads it row by row; `data_prep.readers`
knows the formats. Documents are called by LABEL/relative/path and their place in it, where LABEL is
the name of the package, of the folder, or of what holds a glob's files; a single file has none.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from data_prep import packages
from data_prep.errors import UserError
from data_prep.readers import FORMATS, Document, Fields, Reject, read, readable, whole_text

ALLOWED = f"{', '.join(FORMATS)} (each also .gz, .bz2, .zst, .xz), .tar or .zip"


class SourceConfig(BaseModel):
    """One source of documents: exactly one of `package` and `path`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    package: str | None = None
    """Name of a registered package."""
    path: str | None = None
    """A file, a folder (read recursively, by name) or a glob; `~` is the home folder."""
    text_field: str = "text"
    """Which field or column holds the text."""
    id_field: str | None = None
    """Which field or column names the document; without it the file and the line number do."""
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
        yield from read(file.path, file.name, Fields(source.text_field, source.id_field))


def _package_documents(name: str, downloads: Path) -> Iterator[Document | Reject]:
    package = packages.lookup(name)
    folder = packages.fetch(name, downloads)
    meta = package.meta(folder)
    for path in sorted(folder.glob(package.members)):
        row = whole_text(f"{name}/{path.stem}", path.read_bytes(), meta.get(path.stem))
        if isinstance(row, Document):
            row = Document(row.name, package.text(row.text), row.source, row.position, row.meta)
        yield row


def _files(source: SourceConfig) -> list[_File]:
    """The files of a `path` source, sorted by name, hidden ones left out."""
    if source.path is None:
        raise ValueError("a package has no files of the user's")
    path = Path(source.path).expanduser()
    if path.is_file():
        if not readable(path.name):
            raise UserError(f"{path} is not a file that can be read; its name must end in one of {ALLOWED}")
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
        if not hidden and readable(file.name) and file.is_file() and _belongs(file):
            files.append(_File(file, _printable(str(Path(label, relative).as_posix()))))
    if not files:
        raise UserError(f"{source.path} holds no file whose name ends in one of {ALLOWED}")
    return sorted(files, key=lambda file: file.name)


def _belongs(file: Path) -> bool:
    """Whether a Hugging Face data set on disk, if the file's folder is one, lists it; caches lie beside its data."""
    state = file.parent / "state.json"
    if file.suffix != ".arrow" or not state.is_file():
        return True
    with suppress(ValueError, KeyError, TypeError):
        return file.name in {entry["filename"] for entry in json.loads(state.read_text())["_data_files"]}
    return True


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
