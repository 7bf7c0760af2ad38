"""Finds the pages of a MediaWiki dump by their tags, so that damage in one costs that page only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from data_prep.sources import records

_CHUNK = 1 << 20
_MAX_HEAD = 1 << 22
_AT_END = 1 << 12  # bytes that are kept to recognise the end of a dump
_BEGIN, _END, _LAST = b"<page>", b"</page>", b"</mediawiki>"


class Piece(NamedTuple):
    """One page as XML; or its beginning, and why it cannot be read."""

    xml: bytes
    problem: str = ""
    is_last: bool = False
    """Whether the dump is cut short there."""


def head(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The data before the first page, and the data read beyond it."""
    data = b""
    while (place := data.find(_BEGIN)) < 0 and len(data) < _MAX_HEAD and (chunk := stream.read(_CHUNK)):
        data += chunk
    return (data, data[-_AT_END:]) if place < 0 else (data[:place], data[place:])


def pages(stream: BinaryIO, ahead: bytes) -> Iterator[Piece]:
    """The pages of a dump, whose first bytes after the head are `ahead`."""
    data, place = ahead, 0  # what follows a page is not copied for each of them
    while True:
        begin = data.find(_BEGIN, place)
        if begin >= 0:
            data, place, piece = _page(stream, data, begin)
            yield piece
            if piece.is_last:
                return
        elif chunk := stream.read(_CHUNK):
            data, place = data[max(place, len(data) - _AT_END) :] + chunk, 0
        else:
            break
    if not data[place:].rstrip().endswith(_LAST):
        yield Piece(b"", f"the dump is cut short: it does not end with {_LAST.decode()}", is_last=True)


def _page(stream: BinaryIO, data: bytes, begin: int) -> tuple[bytes, int, Piece]:
    """The page that begins at `begin`, the data in which it ends, and the place there where it ends."""
    searched = begin + len(_BEGIN)
    while True:
        end, other = data.find(_END, searched), data.find(_BEGIN, searched)
        excerpt = data[begin : begin + 4 * records.EXCERPT]
        if other >= 0 and (end < 0 or other < end):
            return data, other, Piece(excerpt, "the page does not end before the next one")
        if end >= 0:
            end += len(_END)
            return data, end, Piece(data[begin:end])
        data, searched, begin = data[begin:], max(searched, len(data) - len(_END)) - begin, 0
        if len(data) > 4 * records.MAX_BYTES:
            return _skip(stream, data), 0, Piece(excerpt, f"longer than {4 * records.MAX_BYTES:,} bytes")
        chunk = stream.read(max(_CHUNK, len(data) >> 2))
        if not chunk:
            return b"", 0, Piece(excerpt, "the dump is cut short within a page", is_last=True)
        data += chunk


def _skip(stream: BinaryIO, data: bytes) -> bytes:
    """The data after a page that is too long, or the page itself if its end is missing."""
    while chunk := stream.read(_CHUNK):
        data = data[-len(_END) :] + chunk
        places = [place for place in (data.find(_END), data.find(_BEGIN)) if place >= 0]
        if places:
            return data[min(places) :].removeprefix(_END)
    return b""
