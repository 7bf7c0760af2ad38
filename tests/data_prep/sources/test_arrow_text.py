"""Text columns of damaged files: nothing is looked up by what was not checked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data_prep.sources.arrow_text import not_utf8, plain_values


def text(offsets: list[int], data: bytes = b"abcde") -> pa.Array:
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def coded(values: pa.Array, indices: list[int]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), values, safe=False)


def test_text_that_is_not_utf8_is_kept() -> None:
    values = text([0, 1, 2], b"a\xff")
    assert plain_values(coded(values, [1, 0])) == ["\udcff", "a"] == plain_values(values)[::-1]
    assert not_utf8(coded(values, [1, 0])).tolist() == [True, False]


@pytest.mark.parametrize("read", [plain_values, not_utf8])
@pytest.mark.parametrize("offsets", [[0, -1, 5], [0, 1 << 30, 5], [0, 3, 1 << 30], [-(1 << 30), 1, 5]])
def test_offsets_are_not_followed_beyond_the_text(read, offsets) -> None:
    with pytest.raises(pa.ArrowException):
        read(text(offsets))
    with pytest.raises(pa.ArrowException):
        read(coded(text(offsets), [0, 1, 1]))


@pytest.mark.parametrize("read", [plain_values, not_utf8])
def test_indices_are_not_followed_beyond_the_values(read) -> None:
    with pytest.raises(pa.ArrowException, match="out of bounds"):
        read(coded(text([0, 1, 2], b"a\xff"), [0, 1 << 20]))
