"""Canonical text of values, and digests.

A value made of dict (with text keys), list, tuple, str, int, float, bool and None has exactly one canonical text: JSON
with sorted keys, no spaces, ASCII escapes, and floats as `repr` writes them. Tuples read as lists; 1 and 1.0 differ.
Anything else raises, naming its path: a value without a canonical text must not become part of a key. Subclasses
(numpy's float64, enums) are refused, too, because their text is not guaranteed.

Digests are BLAKE2b, so that nobody can construct two files or two configs with the same one.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16
_CHUNK_BYTES = 1 << 20


def canonical(value: Any) -> str:
    """The canonical text of `value`. Raises TypeError naming the path of a value that has none, such as `train.lr`."""
    _check(value, "", ())
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """128-bit BLAKE2b of the canonical text, as 32 hex digits."""
    return hashlib.blake2b(canonical(value).encode("ascii"), digest_size=DIGEST_BYTES).hexdigest()


def file_digest(path: Path) -> str:
    """128-bit BLAKE2b of a file's bytes, as 32 hex digits; reads a megabyte at a time."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def _check(value: Any, path: str, parents: tuple[int, ...]) -> None:
    kind = type(value)
    where = path or "the value"
    if value is None or kind in (bool, int, str):
        return
    if kind is float:
        if not math.isfinite(value):
            raise TypeError(f"{where}: {value!r} has no canonical form")
        return
    if kind not in (dict, list, tuple):
        raise TypeError(f"{where}: {kind.__module__}.{kind.__qualname__} has no canonical form")
    if id(value) in parents:
        raise TypeError(f"{where}: contains itself")
    parents = (*parents, id(value))
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"{where}: key {name!r} is not text")
            _check(item, f"{path}.{name}" if path else name, parents)
    else:
        for index, item in enumerate(value):
            _check(item, f"{path}.{index}" if path else str(index), parents)
