"""Web archives: WARC (`response` records that are HTML) and WET (`conversion` records, which are text).

A document is the text of one page, without menus and the like, named by its record. Other records, responses that are
not HTML and unsuccessful responses are ignored. This module locates the records itself, so that damage affects a single
record: it searches for the next one, in a gzipped archive at the next member. FastWARC parses records, and Resiliparse
extracts text from HTML.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, cast

from fastwarc.warc import ArchiveIterator
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

from data_prep.sources import compressed
from data_prep.sources import records as readers_rows
from data_prep.sources.records import Document, Reject, Row, lost
from data_prep.text import bounded
from data_prep.text.bounded import TooMuchError

_CHUNK = 1 << 20
_MEMBER_CHUNK = 1 << 14
_MAX_HEADER = 1 << 16
_IN_MEMORY = 8 << 20
_GZIP = b"\x1f\x8b\x08"
_FIRST_BYTES = 512  # of a gzip member, enough to recognise the start of a record
_FIELD = re.compile(rb"^([\w-]+)[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_VERSION = re.compile(
    rb"WARC/\d+\.\d+\r?\n\Z"
)  # first line of a record; after a truncated record, it is at the end of another line
_PAGES = ("conversion", "response")
_MANY_TAGS, _MAX_DEPTH = 4096, 512
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*+)[^<>]*>")
_EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
_ENDS_ITSELF = {"p", "li", "td", "th", "tr", "dt", "dd", "option", "optgroup", "thead", "tbody", "tfoot", "colgroup"}
_NEVER_NESTED = _EMPTY | _ENDS_ITSELF | {"html", "head", "body"}
_HTML = ("text/html", "application/xhtml+xml")


class _Record(NamedTuple):
    """One record in the archive; `problem`: why it cannot be used, or ""."""

    offset: int
    raw: bytes = b""
    kind: str = ""
    problem: str = ""
    end: int | None = None  # None: unknown
    lost: bool = False  # whether more than this record may be lost


def plain(name: str, stream: BinaryIO, seconds: int | None = None) -> Iterator[Row]:
    """The rows of an uncompressed archive in a seekable stream. `seconds`: of processing, the most for one page."""
    return _rows(name, _records(stream), seconds)


def gzipped(name: str, stream: BinaryIO, seconds: int | None = None) -> Iterator[Row]:
    """The rows of an archive with one gzip member per record, in a seekable stream."""
    return _rows(name, _gzipped_records(stream), seconds)


# -- finding records --------------------------------------------------------------------------------------------------


def _records(stream: BinaryIO) -> Iterator[_Record]:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    lost = False  # bytes outside of records have been reported
    while line := stream.readline(_MAX_HEADER):
        after = stream.tell()
        begin = _VERSION.search(line)
        if line.strip() and not lost and (begin is None or begin.start() > 0):
            lost = True
            yield _Record(after - len(line), line, problem="no record begins here", lost=True)
        if begin is not None:
            record = _record(stream, line[begin.start() :], after - len(line) + begin.start(), size)
            lost = record.end is None
            stream.seek(after if record.end is None else record.end)
            yield record


def _record(stream: BinaryIO, line: bytes, offset: int, size: int) -> _Record:
    """The record whose first line has been read."""
    header = line
    while line.strip():
        line = stream.readline(_MAX_HEADER)
        header += line
        if not line or len(header) > _MAX_HEADER or _VERSION.search(line):
            return _Record(offset, header, problem="its header does not end")
    fields = {key.lower(): value for key, value in _FIELD.findall(header)}
    kind, length = fields.get(b"warc-type", b"").decode("ascii", "replace").lower(), fields.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 15:
        return _Record(offset, header, problem="its header states no length")
    start, end = stream.tell(), stream.tell() + int(length)
    if end > size:
        problem = f"it ends after {size - start:,} of {end - start:,} bytes"
        return _Record(offset, header, problem=problem, lost=True)
    stream.seek(end)
    if not b"WARC".startswith(stream.read(4).lstrip(b"\r\n")):  # before it is read: what follows is searched again
        return _Record(offset, header, problem="its header states a wrong length")
    stream.seek(start)
    block = stream.read(end - start) if kind in _PAGES and end - start <= readers_rows.MAX_BYTES else None
    if block is None:
        too_long = f"longer than {readers_rows.MAX_BYTES:,} bytes" if kind in _PAGES else ""
        return _Record(offset, header, kind, too_long, end)
    problem = "" if _holds(block, fields.get(b"warc-block-digest")) else "its content is not that of its digest"
    return _Record(offset, header + block, kind, problem, end)


def _holds(block: bytes, stated: bytes | None) -> bool:
    algorithm, _, value = (stated or b"").partition(b":")
    digest = hashlib.sha1(block, usedforsecurity=False)
    return algorithm.lower() != b"sha1" or value.lower() in (
        base64.b32encode(digest.digest()).lower(),
        digest.hexdigest().encode(),
    )


def _gzipped_records(stream: BinaryIO) -> Iterator[_Record]:
    offset: int | None = 0
    while offset is not None and (stream.seek(offset), head := stream.read(len(_GZIP)))[1]:
        if not head.strip(b"\0") and _only_zeros(stream):
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as member:
            problem = "no gzip member begins here"
            if head == _GZIP:
                size, problem = _inflate(stream, offset, cast(BinaryIO, member))
            if problem:
                begin, offset = offset, _next_member(stream, offset + 1)
                yield _Record(begin, problem=problem, lost=head != _GZIP or offset is None)
            else:
                yield from (record._replace(offset=offset) for record in _records(cast(BinaryIO, member)))
                offset += size


def _only_zeros(stream: BinaryIO) -> bool:
    """Whether nothing but padding follows."""
    while data := stream.read(_CHUNK):
        if data.strip(b"\0"):
            return False
    return True


def _inflate(stream: BinaryIO, offset: int, member: BinaryIO) -> tuple[int, str]:
    """Write the contents of a gzip member; returns its size in the archive, and its problem or ""."""
    stream.seek(offset)
    inflater, read, written = zlib.decompressobj(zlib.MAX_WBITS | 16), 0, 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = stream.read(_MEMBER_CHUNK)
                read += len(data)
            if not data:
                return read, "its gzip member is cut short"
            written += member.write(inflater.decompress(data, _CHUNK))
            if written > max(compressed.FREE_BYTES, compressed.MAX_EXPANSION * read):
                return read, f"its gzip member expands more than {compressed.MAX_EXPANSION:,}-fold"
    except zlib.error as error:
        return read, f"its gzip member is damaged ({error})"
    return read - len(inflater.unused_data), ""


def _next_member(stream: BinaryIO, offset: int) -> int | None:
    """Offset of the next gzip member that starts a record, or None."""
    while True:
        stream.seek(offset)
        window = stream.read(_CHUNK)
        is_last = len(window) < _CHUNK
        until = len(window) if is_last else len(window) - _FIRST_BYTES
        at = window.find(_GZIP)
        while 0 <= at < until:
            try:
                begin = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(window[at : at + _FIRST_BYTES], 5)
            except zlib.error:
                begin = b""
            if begin == b"WARC/":
                return offset + at
            at = window.find(_GZIP, at + 1)
        if is_last:
            return None
        offset += until


# -- contents of records ----------------------------------------------------------------------------------------------


def _rows(name: str, records: Iterable[_Record], seconds: int | None) -> Iterator[Row]:
    rows = 0
    for number, record in enumerate(records, 1):
        if record.problem:
            reason = f"damaged record at byte {record.offset:,}: {record.problem}"
            row = Reject(name, number, reason, readers_rows.excerpt(record.raw), record.lost)
        else:
            row = _row(name, number, record, seconds) if record.kind in _PAGES else None
        if row is not None:
            rows += 1
            yield row
    if not rows:
        yield lost(name, 1, "the archive holds no page: no text (conversion) and no HTML (response) record")


def _row(name: str, number: int, record: _Record, seconds: int | None) -> Row | None:
    """The page of a record; None if the record is not a page."""
    try:
        return _page(name, number, record, seconds)
    except TooMuchError as error:
        return Reject(name, number, str(error), readers_rows.excerpt(record.raw))
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = f"damaged record at byte {record.offset:,}: {readers_rows.first_line(error)}"
        return Reject(name, number, reason, readers_rows.excerpt(record.raw))


def _page(name: str, number: int, record: _Record, seconds: int | None) -> Row | None:
    response = next(
        iter(ArchiveIterator(io.BytesIO(record.raw + b"\r\n\r\n"), parse_http=True, auto_decode="all")), None
    )
    if response is None:
        raise ValueError("its header cannot be read")
    body = b""
    if record.kind == "response":
        if response.http_headers is None:
            raise ValueError("it holds no HTTP response")
        if response.http_headers.status_code != 200 or (response.http_content_type or "").lower() not in _HTML:
            return None
    body = response.reader.read(readers_rows.MAX_BYTES + 1)
    if len(body) > readers_rows.MAX_BYTES:
        return Reject(name, number, f"longer than {readers_rows.MAX_BYTES:,} bytes", readers_rows.excerpt(body))
    if record.kind == "conversion":
        text = body.decode("utf-8-sig")
    else:
        text = bounded.call(text_of, body, response.http_charset, seconds=seconds)
    if not text.strip():
        return Reject(name, number, "no text on the page", readers_rows.excerpt(body))
    identity = (response.record_id or "").strip("<>").removeprefix("urn:uuid:") or str(number)
    meta = {"url": response.headers.get("WARC-Target-URI", ""), "date": response.headers.get("WARC-Date", "")}
    meta = {key: value.strip("<>") for key, value in meta.items() if value}
    return readers_rows.checked(Document(f"{name}:{identity}", text, name, number, meta), readers_rows.excerpt(body))


def text_of(body: bytes, charset: str | None) -> str:
    """The main text of an HTML page; its encoding is determined by the server, the page or its bytes, in this order."""
    encoding = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    encoding = encoding or detect_encoding(body, from_html_meta=True)
    page = bytes_to_str(body, encoding or "utf-8")
    if page.count("<") > _MANY_TAGS:
        page = _less_deep(page)
    return extract_plain_text(page, main_content=True, alt_texts=False)


def _less_deep(page: str) -> str:
    """A page without the tags that are nested more than _MAX_DEPTH deep, which browsers do not nest either.

    The extraction of text goes up from every element to the first.
    """
    depth = 0

    def kept(tag: re.Match[str]) -> str:
        nonlocal depth
        if tag[2].lower() in _NEVER_NESTED:
            return tag[0]
        if tag[1]:
            depth, keep = max(0, depth - 1), depth <= _MAX_DEPTH
            return tag[0] if keep else ""
        depth += 1
        return tag[0] if depth <= _MAX_DEPTH else ""

    return _TAG.sub(kept, page)
