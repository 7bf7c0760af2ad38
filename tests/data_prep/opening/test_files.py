from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from data_prep.opening.files import UnfitError, npy_header


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def with_header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_a_header_says_shape_order_and_type_and_leaves_the_stream_at_the_first_value() -> None:
    stream = io.BytesIO(saved(np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))))
    assert npy_header(stream) == ((2, 3), True, np.dtype(">i2"))
    assert len(stream.read()) == 12


def test_a_header_with_any_damaged_byte_is_a_header_or_unfit() -> None:
    raw = saved(np.zeros((3, 4, 4)))
    refused = 0
    for place in range(len(raw) - 3 * 4 * 4 * 8):
        for value in b"\x00\xff(x'9-\\\n":
            try:
                npy_header(io.BytesIO(raw[:place] + bytes([value]) + raw[place + 1 :]))
            except UnfitError:
                refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    "text",
    [b"-" * 6000, b"1+" * 4000 + b"1", b"(" * 5000, b"{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }"],
)
def test_headers_that_python_cannot_parse_or_that_claim_less_than_nothing_are_unfit(text: bytes) -> None:
    with pytest.raises(UnfitError, match="not a NumPy array"):
        npy_header(io.BytesIO(with_header(text)))
