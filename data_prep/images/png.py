"""What Pillow leaves to its callers of PNG files: chunks that are no pixels, and which grey value is transparent.

signature, then chunks: length uint32, name, data, CRC-32 (https://www.w3.org/TR/png-3/)
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PROFILE = b"iCCP"
_READ = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # transparency, orientation, animation
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts in which Pillow looks for it
_MOST_TEXT = 1 << 20  # bytes of such a text, which Pillow allows
_AROUND = 12  # bytes of a chunk besides its data
_DEPTH, _COLOUR_TYPE = 24, 25  # where they are in the file
_GREY, _COLOUR = 0, 2


class Samples(NamedTuple):
    """How a file stores its pixels."""

    depth: int
    """Bits per channel."""
    colour_type: int


def samples(raw: bytes) -> Samples | None:
    """How the pixels of a PNG file are stored; None for other files."""
    if not raw.startswith(SIGNATURE) or len(raw) <= _COLOUR_TYPE:
        return None
    return Samples(raw[_DEPTH], raw[_COLOUR_TYPE])


class Stripped(NamedTuple):
    """A file without some of its chunks, and the names of these."""

    raw: bytes
    dropped: frozenset[bytes]


def stripped(raw: bytes) -> Stripped:
    """A file without the chunks that do not affect its pixels: comments and thumbnails of any size.

    Their names begin with a lower-case letter: an image can be decoded without them. Pillow refuses images with
    comments over a megabyte. Other files, and data that is not in chunks, are unchanged.
    """
    if not raw.startswith(SIGNATURE):
        return Stripped(raw, frozenset())
    kept, dropped, start, place = [], set[bytes](), 0, len(SIGNATURE)
    while place + _AROUND <= len(raw):
        (length,), name = struct.unpack_from(">I", raw, place), raw[place + 4 : place + 8]
        after = place + _AROUND + length
        if after > len(raw):
            break
        if name[0] & 0x20 and not _is_read(name, raw[place + 8 : after - 4]):
            kept.append(raw[start:place])
            dropped.add(name)
            start = after
        place = after
    return Stripped(b"".join([*kept, raw[start:]]) if dropped else raw, frozenset(dropped))


def _is_read(name: bytes, data: bytes) -> bool:
    """Whether a chunk may say what the pixels look like, and is no longer than Pillow allows."""
    if name in _READ:
        return True
    if name != PROFILE and not (name in _TEXT and data.startswith(_ORIENTATION)):
        return False
    text = data.partition(b"\0")[2]
    if name == b"tEXt":
        return len(text) <= _MOST_TEXT
    is_packed, packed = True, text[1:]
    if name == b"iTXt":  # compressed?, method, language, 0, translated keyword, 0, text
        is_packed, packed = text[:1] == b"\1", text[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _is_short(packed) if is_packed else len(packed) <= _MOST_TEXT


def _is_short(packed: bytes) -> bool:
    """Whether compressed bytes are whole, and no more than _MOST_TEXT when decompressed."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return False
    return unpacker.eof


def with_alpha(image: Image.Image, stored: Samples) -> Image.Image | None:
    """An image whose transparent value Pillow does not compare as stored, with alpha; None: Pillow does it right.

    Grey values of 2, 4 and 16 bits become 8 bits in Pillow, their transparent value does not. Raises ValueError for
    colours of 16 bits, of which only 8 are left.
    """
    transparent = image.info.get("transparency")
    if transparent is None or stored.depth in (1, 8):
        return None
    if stored.colour_type == _COLOUR:
        raise ValueError("one of its 16-bit colours is transparent, which cannot be told apart; save it with alpha")
    if stored.colour_type != _GREY:
        return None
    values = np.asarray(image)
    limit = (1 << stored.depth) - 1
    alpha = values != (transparent & limit) * (1 if stored.depth == 16 else 255 // limit)
    grey = (values >> 8).astype(np.uint8) if stored.depth == 16 else values
    return Image.fromarray(np.stack([grey, np.where(alpha, 255, 0).astype(np.uint8)], axis=-1), "LA")
