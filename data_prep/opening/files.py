"""Files of a folder that others may have made: plain ones inside of it, read within limits."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tokenize
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.legible import masked

LARGEST_JSON = 1 << 28
MOST_FILES = 10_000
HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which JSON can spell, and bytes that are not UTF-8 become
_SNAPSHOTS, _BLOBS = "snapshots", "blobs"  # of a cache of the Hugging Face hub, whose snapshots link to blobs


class UnfitError(ValueError):
    """A file or name that is not used; the message says why, in a clause."""


def clause(error: BaseException) -> str:
    """What an exception says, in one short line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        return f"{path}: {first['msg']}" if path else first["msg"]
    reason = masked(" ".join(str(error).partition("\n")[0].split()))[:300] or type(error).__name__
    return reason.rstrip(".")


def checked(folder: Path | str) -> Path:
    """The folder, if everything in it is a plain file or folder that lies inside of it.

    Links may point to other files of the folder, or from a snapshot of a hub's cache to its blobs. UserError otherwise.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one on this machine (names are looked up nowhere).")
    number = 0
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for name in [*folders, *files]:
            number += 1
            path = Path(place, name)
            if number > MOST_FILES:
                raise UserError(f"{folder}: holds more than {MOST_FILES:,} files; give the folder of one model.")
            if problem := _problem(path, folder):
                raise UserError(f"{path}: {problem}; copy what it should be to its place, or remove it.")
    return folder


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); let this user read it.") from error


def _problem(path: Path, folder: Path) -> str:
    """Why a path in a folder is not used; empty where it is."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        try:
            target, top = path.resolve(), folder.resolve()
        except (OSError, RuntimeError):
            return "is a link to itself"
        places = [top] + [top.parent.parent / _BLOBS] * (top.parent.name == _SNAPSHOTS)
        if not any(target.is_relative_to(place) for place in places):
            return f"is a link to {target}, outside of its folder"
        if not target.exists():
            return f"is a link to {target}, which is not there"
        mode = target.stat().st_mode
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "is no plain file"


def inside(folder: Path, name: Any) -> Path:
    """The path of a plain file that something in the folder names. UnfitError for others, and where it is missing."""
    parts = PurePosixPath(name if isinstance(name, str) else "").parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UnfitError(f"{str(name)[:100]!r} is no name of a file in this folder")
    path = folder / name
    plain(path)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnfitError(f"{name!r} lies outside of this folder")
    return path


def plain(path: Path) -> int:
    """Bytes of a plain file. UnfitError if it is something else: a pipe or device may never end."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise UnfitError(f"{path.name} is not there") from error
    except (OSError, ValueError) as error:
        raise UnfitError(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnfitError(f"{path.name} is no plain file")
    return status.st_size


def read(path: Path, most: int = LARGEST_JSON) -> bytes:
    """The bytes of a plain file of at most so many. UnfitError for others."""
    if (size := plain(path)) > most:
        raise UnfitError(f"{path.name} has {size:,} bytes, and at most {most:,} are read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnfitError(f"{path.name} cannot be read ({error.strerror})") from error


def parsed(data: bytes | str) -> Any:
    """The value of a JSON text. UnfitError if it is not JSON, has a key twice, or is nested too deeply.

    NaN and Infinity, which Python writes, are numbers: settings of networks have them.
    """
    return _parsed(data)


def parsed_strictly(text: str) -> Any:
    """The same of a value that is to be written again, so that everybody can read it (RFC 7493).

    UnfitError, too, for numbers that are not finite, and for half of a surrogate pair.
    """
    value = _parsed(text, parse_constant=_not_finite, parse_float=_finite)
    if "\\u" in text and (half := HALF.search(json.dumps(value, ensure_ascii=False))):
        raise UnfitError(f"it holds half of a surrogate pair (\\u{ord(half[0]):04x}), which is no character")
    return value


def _parsed(data: bytes | str, **options: Any) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object, **options)
    except RecursionError:
        raise UnfitError("it is nested too deeply") from None
    except UnfitError:
        raise
    except ValueError as error:
        raise UnfitError(f"it is no JSON: {error}") from None


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _not_finite(text)


def _not_finite(text: str) -> float:
    raise UnfitError(f"it holds {text[:60]}, which is no finite number")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise UnfitError(f"it names {twice[:100]!r} twice")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. UnfitError if there is none."""
    try:
        value = parsed(read(path))
    except UnfitError as error:
        raise UnfitError(str(error).replace("it ", f"{path.name} ", 1)) from error
    if not isinstance(value, dict):
        raise UnfitError(f"{path.name} holds no object")
    return value


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether values are stored by column, and their type; leaves the stream at the first value.

    UnfitError where it is none: NumPy parses a header as Python, so a damaged one may raise nearly anything.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read_header(stream, max_header_size=10_000)
    except (ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, ArithmeticError, RecursionError,
            MemoryError) as error:  # fmt: skip
        raise UnfitError(f"not a NumPy array ({str(error).partition(chr(10))[0] or type(error).__name__})") from error
    if min(shape, default=0) < 0:
        raise UnfitError(f"not a NumPy array (it claims the shape {list(shape)})")
    return shape, by_column, dtype


def read_array(path: Path, dtype: Any = None, axes: int = 1) -> np.ndarray:
    """An .npy file of that type (None: any numbers) and number of axes. UnfitError where it is another, or damaged.

    What its header claims is compared with its size before memory is taken.
    """
    size = plain(path)
    with path.open("rb") as file:
        try:
            shape, _, stored = npy_header(file)
        except UnfitError as error:
            raise UnfitError(f"{path.name} is {error}") from error
        is_of_type = stored.kind in "buif" if dtype is None else stored == np.dtype(dtype)
        if not is_of_type or len(shape) != axes:
            raise UnfitError(f"{path.name} is an array {stored} {list(shape)}, not {dtype or 'numbers'} of {axes} axes")
        if math.prod(shape) * stored.itemsize != size - file.tell():
            raise UnfitError(f"{path.name} claims the shape {list(shape)}, and has {size - file.tell():,} bytes of it")
    return np.load(path, allow_pickle=False)
