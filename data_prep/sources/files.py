"""Local files, and those that `pyarrow.fs` can access (`s3://bucket/folder`, `gs://…`, `hdfs://…`).

A file is named by its URI: an absolute path, or `scheme://host/path?options` with a percent-encoded path. `find` lists
the files of a path, `stamp` tells whether a file has changed since, and `open_file` reads it. Passwords belong in the
environment, where pyarrow finds them, because URIs are recorded with derived data.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn, cast
from urllib.parse import quote, unquote

import pyarrow as pa

from data_prep.errors import UserError
from data_prep.legible import SECRET_PARAMETER, masked

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_BUFFER = 1 << 20
_LITTER = {
    # of network storage, macOS and Windows
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "__macosx", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "recycler"),
    *("lost+found", "network trash folder", "temporary items"),
    # of programs that write data in parts, which describe them
    *("_success", "_metadata", "_common_metadata", "_temporary", "_delta_log", "_spark_metadata"),
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "__pycache__"),
}
_NOWHERE = "links to nothing"
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)/?([^?]*)(?:\?(.*))?", re.DOTALL)


class File(NamedTuple):
    """One file of a listing: `relative` is its path below the folder or before a glob's first wildcard."""

    uri: str
    relative: str
    size: int
    stamp: str
    """Its modification time in ns; empty if the file system does not report it."""


class FileListing(NamedTuple):
    """The files of a path. `label` is the name of the folder; empty if the path is a single file."""

    label: str
    files: list[File]
    names_them: bool = False
    """Whether the path is a glob that names kinds of files, such as `*.json*`, and not all, as `*` does."""
    others: Mapping[str, int] = MappingProxyType({})
    """Numbers of what the path names besides files, by what they are: folders (and links to them) whose files are not
    among these, links that lead nowhere, and what cannot be read to an end, such as pipes."""


def is_litter(names: Iterable[str]) -> bool:
    """Whether a path with these parts is hidden, or was left there by a system, and is nobody's data."""
    return any(name.startswith((".", "~$")) or name.lower() in _LITTER for name in names)


def find(path: str) -> FileListing:
    """The files of a path, folder or glob, without those of `is_litter`. Raises UserError if it does not exist."""
    if is_remote(path):
        return _find_remote(path)
    try:
        return _find_local(local_path(path))
    except OSError as error:
        where = error.filename or path
        raise UserError(f"{where} cannot be read ({error.strerror}); mend it or leave it out") from error


def is_remote(path: str) -> bool:
    match = _URI.fullmatch(path)
    return match is not None and match[1].lower() != "file"


def secret_in(uri: str) -> bool:
    """Whether a URI contains a password, which would be recorded with it."""
    match = _URI.fullmatch(uri)
    if match is None:
        return False
    options = f"?{unquote(match[4] or '')}"  # as they are read: names may be encoded, and values be addresses
    return ":" in match[2].rpartition("@")[0] or bool(SECRET_PARAMETER.search(options)) or masked(options) != options


def local_path(path: str) -> Path:
    """The path of `file://…` or of `~/…`, absolute."""
    match = _URI.fullmatch(path)
    try:
        return Path(unquote("/" + match[3])) if match else Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user; write the folder out") from None


def stamp(uri: str) -> tuple[int, str] | None:
    """Current size and modification time of a file; None if it is no longer a regular file."""
    if is_remote(uri):
        system, place = _place(uri)
        with _Explained(uri):
            info = system.get_file_info([place])[0]
        return (info.size, _time(info)) if info.is_file else None
    try:
        status = Path(uri).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None


def open_file(uri: str) -> BinaryIO:
    """A seekable stream of a file's bytes. Raises OSError for local files, UserError for errors of a remote system."""
    return cast(BinaryIO, io.BufferedReader(RemoteFile(uri), _BUFFER)) if is_remote(uri) else Path(uri).open("rb")


def sibling(uri: str, name: str) -> str:
    """URI of another file in the same folder."""
    match = _URI.fullmatch(uri) if is_remote(uri) else None
    if match is None:
        return str(Path(uri).parent / name)
    place = "/".join([*unquote(match[3]).split("/")[:-1], name])
    return _uri(match, place)


def below(uri: str, name: str) -> str:
    """URI of the entry `name` in a folder."""
    match = _URI.fullmatch(uri) if is_remote(uri) else None
    return str(local_path(uri) / name) if match is None else _uri(match, f"{unquote(match[3]).rstrip('/')}/{name}")


# -- this machine -----------------------------------------------------------------------------------------------------


def _find_local(path: Path) -> FileListing:
    if path.is_file():
        status = path.stat()
        return FileListing("", [File(str(path), path.name, status.st_size, str(status.st_mtime_ns))])
    if path.is_dir():
        return _listing(path, ["**"], follow=False)
    if path.exists():
        raise UserError(f"{path} is neither a file nor a folder; give a file, a folder or a glob")
    if not glob.has_magic(str(path)):
        raise UserError(f"{path} does not exist; give a file, a folder or a glob")
    root, patterns = _split_glob(path.parts[1:])
    return _listing(Path(path.parts[0], *root), patterns, follow=True)


def _listing(folder: Path, patterns: list[str], follow: bool) -> FileListing:
    files: list[File] = []
    others = Counter[str]()
    for entry in _walk(folder, patterns, follow) if folder.is_dir() else ():
        if isinstance(entry, str):
            others[entry] += 1
        else:
            files.append(entry)
    return FileListing(folder.resolve().name, files, _names_kinds(patterns[-1]), others)


def _walk(root: Path, patterns: list[str], follow: bool) -> Iterator[File | str]:
    """Regular files below a folder whose relative path matches; for all else that does, what it is.

    Symbolic links to files count as files; links to folders are followed if `follow`, except to an enclosing folder.
    """
    status = root.stat()
    todo: list[tuple[Path, tuple[str, ...], set[int], frozenset[tuple[int, int]]]]
    todo = [(root, (), _closed({0}, patterns), frozenset([(status.st_dev, status.st_ino)]))]
    while todo:
        folder, above, states, seen = todo.pop()
        for entry in _entries(folder, must="**" in patterns):
            after = set() if is_litter([entry.name]) else _advanced(states, entry.name, patterns)
            relative = (*above, entry.name)
            try:
                if len(patterns) in after and entry.is_file():
                    status = entry.stat()
                    yield File(entry.path, "/".join(relative), status.st_size, str(status.st_mtime_ns))
                elif after - {len(patterns)} and entry.is_dir(follow_symlinks=follow):
                    status = entry.stat()
                    identity = (status.st_dev, status.st_ino)
                    if identity not in seen:
                        todo.append((Path(entry.path), relative, after, seen | {identity}))
                elif after and entry.is_dir():
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) not in seen:
                        yield "folders"
                elif len(patterns) in after:
                    yield _NOWHERE if entry.is_symlink() else "pipes and devices"
            except OSError as error:
                if error.errno == errno.ELOOP:  # a link to itself
                    yield _NOWHERE
                elif error.errno != errno.ENOENT:  # removed meanwhile
                    raise


def _entries(folder: Path, must: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except PermissionError:
        if must:
            raise
        return []  # skipped, as in shell globs


# -- globs ------------------------------------------------------------------------------------------------------------


def _split_glob(parts: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The folders before a glob's first wildcard, and the patterns from that one on."""
    first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return list(parts[:first]), list(parts[first:])


def _names_kinds(pattern: str) -> bool:
    """Whether the last part of a glob says more than that it takes all files."""
    return bool(pattern.strip("*?."))


def _closed(states: set[int], patterns: list[str]) -> set[int]:
    """Indices of the patterns that may come next; `**` also matches no folder."""
    for state in sorted(states):
        while state < len(patterns) and patterns[state] == "**":
            state += 1
            states = states | {state}
    return states


def _advanced(states: set[int], name: str, patterns: list[str]) -> set[int]:
    """Indices of the patterns that may come after a file or folder `name`; `len(patterns)`: all have matched."""
    after = set()
    for state in states:
        if state < len(patterns) and patterns[state] == "**":
            after.add(state)
        elif state < len(patterns) and fnmatch.fnmatchcase(name, patterns[state]):
            after.add(state + 1)
    return _closed(after, patterns)


def _matches(relative: str, patterns: list[str]) -> bool:
    states = _closed({0}, patterns)
    for name in relative.split("/"):
        states = set() if is_litter([name]) else _advanced(states, name, patterns)
    return len(patterns) in states


# -- other file systems -----------------------------------------------------------------------------------------------


def _find_remote(uri: str) -> FileListing:
    from pyarrow.fs import FileSelector, FileType

    match = _parsed(uri)
    system, base = _base(match)
    path = unquote(match[3]).strip("/")
    root, patterns = _join(base, path), ["**"]
    with _Explained(uri):
        info = system.get_file_info([root])[0]
        if info.is_file:
            return FileListing("", [File(_uri(match, path), info.base_name, info.size, _time(info))])
        if info.type == FileType.NotFound:
            if not glob.has_magic(path):
                raise UserError(f"{shown(uri)} does not exist; give a file, a folder or a glob")
            folders, patterns = _split_glob(tuple(path.split("/")))
            path = "/".join(folders)
            root = _join(base, path)
        selector = FileSelector(root, allow_not_found=True, recursive=len(patterns) > 1 or patterns == ["**"])
        infos = system.get_file_info(selector)
    files = []
    for info in infos:
        relative = info.path[len(root) :].lstrip("/")
        if info.is_file and _matches(relative, patterns):
            files.append(
                File(_uri(match, _join(path, relative) if path else relative), relative, info.size, _time(info))
            )
    return FileListing(path.rpartition("/")[2] or match[2].rpartition("@")[2], files, _names_kinds(patterns[-1]))


def shown(uri: str) -> str:
    """A URI without options and user name, for messages."""
    match = _URI.fullmatch(uri)
    return f"{match[1]}://{match[2].rpartition('@')[2]}/{unquote(match[3])}" if match else uri


class RemoteFile(io.RawIOBase):
    """A file of a remote file system. Errors of the system are UserErrors, so that the file does not count as bad."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.uri = uri
        system, place = _place(uri)
        with _Explained(uri):
            self._file = system.open_input_file(place)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        with _Explained(self.uri):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < 0 and whence == io.SEEK_SET:  # caused by a damaged archive, not by the system
            raise ValueError(f"negative seek position {offset}")
        with _Explained(self.uri):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


class _Explained:
    """Context manager that turns pyarrow's errors into UserErrors."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError):
            _explain(self._uri, error)


def _explain(uri: str, error: BaseException | None) -> NoReturn:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
    raise UserError(
        f"{shown(uri)} cannot be read ({reason}); check that it exists, that the network reaches it,"
        " and that the credentials in the environment allow it"
    ) from error


def _place(uri: str) -> tuple[FileSystem, str]:
    """The file system of a URI, and the path in it."""
    system, base = _base(_parsed(uri))
    return system, _join(base, unquote(_parsed(uri)[3]))


def _parsed(uri: str) -> re.Match[str]:
    return cast("re.Match[str]", _URI.fullmatch(uri))


def _base(match: re.Match[str]) -> tuple[FileSystem, str]:
    """The file system, and the path in it of the URI's host."""
    return _system(f"{match[1]}://{match[2]}" + (f"?{match[4]}" if match[4] else ""), os.getpid())


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path}" if path else base


@lru_cache(maxsize=64)
def _system(root: str, process: int) -> tuple[FileSystem, str]:
    """The file system, opened once per process: a connection does not survive a fork."""
    from pyarrow.fs import FileSystem

    if root.partition(":")[0].lower() not in SCHEMES:  # pyarrow would ask any server by fsspec, with what it finds
        raise UserError(f"{shown(root)} is not read; allowed: files, or one of {', '.join(f'{s}://' for s in SCHEMES)}")
    try:
        return FileSystem.from_uri(root)
    except (pa.ArrowException, OSError, ValueError) as error:
        _explain(root, error)


def _uri(match: re.Match[str], place: str) -> str:
    return f"{match[1]}://{match[2]}/{quote(place)}" + (f"?{match[4]}" if match[4] else "")


def _time(info: FileInfo) -> str:
    return "" if info.mtime_ns is None else str(info.mtime_ns)
