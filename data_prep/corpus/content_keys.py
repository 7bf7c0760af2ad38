"""Digests of the contents of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.rng import absorb, key

_LANES = np.array([key(0, "content", "high"), key(0, "content", "low")], np.uint64)


_ABSENT = np.uint64(0x7FF8000000000001)  # a NaN that arithmetic never produces


def content_keys(
    columns: dict[str, pa.Array], rows: int, beyond_float: Mapping[str, pa.Array] = MappingProxyType({})
) -> np.ndarray:
    """[R, 2] uint64: a 128-bit digest of each row's contents, independent of the order of the columns.

    Columns are float64, timestamp[us] or string. Numbers are compared by value (0 equals −0), not by spelling; those
    that float64 does not tell from others also by their text in `beyond_float`, which is null for the rest.
    """
    state = np.broadcast_to(_LANES[:, None], (2, rows))
    for name in sorted(columns):
        named = np.array([key(0, "column high", name), key(0, "column low", name)], np.uint64)
        state = absorb(state ^ named[:, None], _words(columns[name]))
        if name in beyond_float:
            exact = beyond_float[name]
            state = np.where(np.asarray(exact.is_valid()), absorb(state, _words(exact)), state)
    return np.ascontiguousarray(state.T)


def _words(column: pa.Array) -> np.ndarray:
    """uint64 [R], or [2, R] for strings."""
    absent = np.asarray(column.is_null())
    if pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        hashes = [hashlib.blake2b(value.encode(), digest_size=16).digest() for value in encoded.dictionary.to_pylist()]
        table = np.frombuffer(b"".join([*hashes, b"\xff" * 16]), "<u8").reshape(-1, 2).astype(np.uint64)
        index = np.array(pc.fill_null(encoded.indices, len(hashes)))
        return table[index].T
    if pa.types.is_floating(column.type):
        values = np.array(pc.fill_null(column, 0.0)) + 0.0
    else:
        values = np.array(pc.fill_null(column.cast(pa.int64()), 0))
    return np.where(absent, _ABSENT, values.view(np.uint64))
