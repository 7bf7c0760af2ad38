"""Integrity of files: digests, JSON that contains its own digest, atomic writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from data_prep.opening.files import parsed


def digest(data: Any) -> str:
    """xxh3-128 of a buffer, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def sealed(index: dict[str, Any]) -> bytes:
    """JSON bytes of the index, including a digest of its contents."""
    body = {name: value for name, value in index.items() if name != "digest"}
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return json.dumps(body | {"digest": digest(text.encode())}, ensure_ascii=False, indent=1).encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """The index from the bytes of `sealed`; ValueError if they are damaged."""
    index = parsed(data)
    if not isinstance(index, dict) or json.loads(sealed(index))["digest"] != index.get("digest"):
        raise ValueError("its digest does not match")
    return index


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see all of it or none."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def mapped(path: Path) -> memoryview:
    """The bytes of a file, memory-mapped."""
    return memoryview(pa.memory_map(str(path)).read_buffer())
