"""Text columns of Arrow and Parquet files, whose bytes may not be UTF-8, which is checked by nobody who writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def plain_values(column: pa.Array) -> list[Any]:
    """The values of a column; bytes of text that are not UTF-8 become surrogates. ArrowInvalid if it is damaged."""
    raw = _undecoded(column)
    if raw is None:
        return column.to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw.to_pylist()]


def not_utf8(column: pa.Array) -> np.ndarray:
    """bool [R]: which values of a column are text that is not UTF-8. ArrowInvalid if it is damaged otherwise."""
    raw = _undecoded(column)
    if raw is None:
        return np.zeros(len(column), bool)
    return np.array([value is not None and not _is_utf8(value) for value in raw.to_pylist()], bool)


def _undecoded(column: pa.Array) -> pa.Array | None:
    """A column of text that is not all UTF-8 as bytes; None for any other. ArrowInvalid if it is damaged otherwise."""
    try:
        column.validate(full=True)  # checks offsets and UTF-8, since files may be damaged
    except pa.ArrowInvalid:
        raw = _as_binary(column)
        if raw is None:
            raise
        raw.validate(full=True)
        return raw
    return None


def _as_binary(column: pa.Array) -> pa.Array | None:
    """A column of text as bytes, which need not be UTF-8; None for other columns. ArrowInvalid if it is damaged."""
    column.validate()  # lengths and sizes, before anything is looked up by them
    if pa.types.is_dictionary(column.type):
        values = _as_binary(column.dictionary)
        if values is None:
            return None
        values.validate(full=True)  # wrong offsets would be followed beyond its memory
        column.indices.validate(full=True)
        return pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()
    for of, to in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        if column.type == of:
            return pa.Array.from_buffers(to, len(column), column.buffers(), offset=column.offset)
    if column.type == pa.string_view():
        return pa.Array.from_buffers(pa.binary_view(), len(column), column.buffers(), offset=column.offset)
    return None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
