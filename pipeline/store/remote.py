"""The store's files anywhere that `pyarrow.fs` reaches: `s3://bucket/folder`, `gs://…`, `hdfs://…`.

An attempt is written in a local folder and uploaded when it is committed. Readers get a local copy of the attempt,
every file checked against the manifest, fetched once. A PUT to an object store is atomic; on other file systems a small
file is written under a temporary name and moved.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from data_prep.errors import UserError
from data_prep.sources.files import below, is_remote
from pipeline.artifact import FileEntry
from pipeline.fingerprint import DIGEST_BYTES, digest, file_digest
from pipeline.store.local import usage

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_OBJECT_STORES = {"abfs", "gcs", "s3"}
_CHUNK_BYTES = 8 << 20


def open_uri(uri: str, cache: Path | None = None) -> RemoteFiles:
    """The files below a URI that pyarrow can open. UserError if it cannot."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    parts = urlsplit(uri)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # without credentials
    try:
        system, root = FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).replace(uri, shown)
        raise UserError(f"{shown}: cannot be opened as a store ({reason})") from None
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sesame"
    return RemoteFiles(system, root, cache or default / digest([shown, parts.query])[:16], shown, uri)


class RemoteFiles:
    """`ROOT/KEY/NAME` on a pyarrow file system, with drafts and copies in `home` on this machine."""

    def __init__(self, system: FileSystem, root: str, home: Path, shown: str, uri: str = "") -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._shown = shown.rstrip("/")
        self._uri = uri
        self._puts_whole = system.type_name in _OBJECT_STORES
        self.home = home
        """Where this machine keeps work, downloads, drafts and copies."""

    def where(self, key: str, name: str = "") -> str:
        return "/".join(part for part in (self._shown, key, name) if part)

    def uri(self, key: str, attempt: str) -> str | None:
        """URI where an attempt's files can be read one by one; None if there is a local copy, or one is needed."""
        copied = (self._copies / key / attempt).is_dir()
        return below(self._uri, f"{key}/{attempt}") if is_remote(self._uri) and not copied else None

    def folders(self) -> list[str]:
        return sorted({*self._children(self._root), *_names(self._drafts), *_names(self._copies)})

    def names(self, key: str) -> list[str]:
        local = (*_names(self._drafts / key), *_names(self._copies / key))
        return sorted({*self._children(self._at(key)), *local})

    def read(self, key: str, name: str) -> bytes | None:
        try:
            with self._system.open_input_stream(self._at(key, name)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def put(self, key: str, name: str, data: bytes) -> None:
        """Write or replace one small file, atomically."""
        path = self._at(key, name)
        if self._puts_whole:
            self._write(path, [data])
            return
        temporary = self._at(key, f".{name}.{secrets.token_hex(4)}.tmp")
        self._write(temporary, [data])
        self._system.move(temporary, path)

    def put_new(self, key: str, name: str, data: bytes) -> bool:
        """Write one small file, atomically; False, and no change, if there is one already.

        Of two simultaneous writers the later one wins; its file is complete.
        """
        if self._is_file(self._at(key, name)):
            return False
        self.put(key, name, data)
        return self.read(key, name) == data

    def drop(self, key: str, name: str) -> None:
        """Remove one small file, if it is there."""
        if self._is_file(self._at(key, name)):
            self._system.delete_file(self._at(key, name))
        copy = self._copies / key / name
        if copy.is_dir():  # a copy that was never finished
            shutil.rmtree(copy)

    def tidy(self, key: str) -> None:
        """Remove the key's folders if nothing is left in them."""
        for folder in (self._drafts / key, self._copies / key):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if self._is_folder(self._at(key)) and not self._children(self._at(key)):
            self._system.delete_dir(self._at(key))

    def draft(self, key: str, attempt: str) -> Path:
        """A new local folder for an attempt's files."""
        folder = self._drafts / key / attempt
        folder.mkdir(parents=True)
        return folder

    def publish(self, key: str, attempt: str, names: Iterable[str]) -> None:
        """Upload an attempt's files; the draft becomes this machine's copy."""
        draft = self._drafts / key / attempt
        for name in names:
            self._write(self._at(key, attempt, name), _chunks(draft / name))
        copy = self._copies / key / attempt
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(copy)

    def open(self, key: str, attempt: str, files: Mapping[str, FileEntry]) -> Path:
        """A local copy of an attempt's files, fetched and checked if there is none. Raises UserError for damage."""
        copy = self._copies / key / attempt
        if copy.is_dir():
            return copy
        partial = self._copies / key / f".{attempt}.{secrets.token_hex(4)}.tmp"
        partial.mkdir(parents=True)
        try:
            for name, entry in files.items():
                self._fetch(key, attempt, name, entry, partial / name)
            try:
                partial.rename(copy)
            except OSError:
                if not copy.is_dir():  # otherwise another process fetched it meanwhile
                    raise
        finally:
            if partial.exists():
                shutil.rmtree(partial)
        return copy

    def discard(self, key: str, attempt: str) -> None:
        """Remove an attempt's files, draft and copy, if there are any."""
        for folder in (self._drafts / key / attempt, self._copies / key / attempt):
            if folder.is_dir():
                shutil.rmtree(folder)
        if self._is_folder(self._at(key, attempt)):
            self._system.delete_dir(self._at(key, attempt))

    def listing(self, key: str, attempt: str) -> dict[str, int]:
        """Sizes of an attempt's files by their names inside it."""
        top = self._at(key, attempt)
        return {info.path[len(top) + 1 :]: info.size for info in self._below(top) if info.is_file}

    def digest(self, key: str, attempt: str, name: str) -> str:
        state = hashlib.blake2b(digest_size=DIGEST_BYTES)
        with self._system.open_input_stream(self._at(key, attempt, name)) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                state.update(chunk)
        return state.hexdigest()

    def usage(self, key: str, name: str) -> tuple[int, float]:
        """Bytes of a file or folder (a copy here counts once), and the time of its newest change."""
        draft = usage(self._drafts / key / name)
        copy = usage(self._copies / key / name)
        infos = [*self._below(self._at(key, name)), *self._system.get_file_info([self._at(key, name)])]
        times = [info.mtime.timestamp() for info in infos if info.mtime is not None]
        size = sum(info.size for info in infos if info.is_file)
        return max(size, draft[0], copy[0]), max([draft[1], copy[1], *times])

    @property
    def _drafts(self) -> Path:
        return self.home / ".drafts"

    @property
    def _copies(self) -> Path:
        return self.home / ".copies"

    def _at(self, *parts: str) -> str:
        return "/".join(part for part in (self._root, *parts) if part)

    def _children(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector

        infos = self._system.get_file_info(FileSelector(folder, allow_not_found=True))
        return [info.base_name for info in infos]

    def _below(self, folder: str):
        from pyarrow.fs import FileSelector

        selector = FileSelector(folder, allow_not_found=True, recursive=True)
        return self._system.get_file_info(selector) if self._is_folder(folder) else []

    def _is_file(self, path: str) -> bool:
        return self._system.get_file_info([path])[0].is_file

    def _is_folder(self, path: str) -> bool:
        from pyarrow.fs import FileType

        return self._system.get_file_info([path])[0].type == FileType.Directory

    def _write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file. Closing a stream commits its contents, so an incomplete file is removed again."""
        if not self._puts_whole:  # an object store has no folders to make
            self._system.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            with self._system.open_output_stream(path) as stream:
                for chunk in chunks:
                    stream.write(chunk)
        except BaseException:
            if self._is_file(path):
                self._system.delete_file(path)
            raise

    def _fetch(self, key: str, attempt: str, name: str, entry: FileEntry, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        where = self.where(key, f"{attempt}/{name}")
        try:
            with self._system.open_input_stream(self._at(key, attempt, name)) as stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, _CHUNK_BYTES)
        except FileNotFoundError:
            raise UserError(f"{where} is missing; delete the artifact {key} and rerun") from None
        if target.stat().st_size != entry["size"] or file_digest(target) != entry["digest"]:
            raise UserError(f"{where} is damaged; delete the artifact {key} and rerun")


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
