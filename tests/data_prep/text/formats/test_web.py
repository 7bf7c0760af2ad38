"""Web archives, written by another library, whole and damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources import compressed, records
from data_prep.sources.records import Document, Fields, Reject, Row
from data_prep.text.formats.formats import read

pytest.importorskip("warcio", reason="the library that writes web archives for tests is not installed")
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

URL = "http://example.org/"
PAGE = """<html><head><title>T</title>{head}</head><body><nav><a href="/">Home</a></nav>
<main><article><h1>Grüße</h1><p>{text}</p></article></main><script>var x;</script></body></html>"""


class Archive:
    """A WARC file in the making, and where each record begins."""

    def __init__(self, gz: bool = False) -> None:
        self.out = io.BytesIO()
        self.writer = WARCWriter(self.out, gzip=gz)
        self.starts: list[int] = []

    def add(self, kind: str, body: bytes, number: int = 0, http: Any = None, **headers: str) -> Archive:
        self.starts.append(self.out.tell())
        fixed = {
            "WARC-Record-ID": f"<urn:uuid:{number:08d}-0000-0000-0000-000000000000>",
            "WARC-Date": "2024-05-01T12:00:00Z",
            **headers,
        }
        record = self.writer.create_warc_record(
            f"{URL}{number}", kind, payload=io.BytesIO(body), warc_headers_dict=fixed, http_headers=http
        )
        self.writer.write_record(record)
        return self

    def text(self, number: int, text: str) -> Archive:
        return self.add("conversion", text.encode(), number)

    def page(self, number: int, body: bytes, kind: str = "text/html", status: str = "200 OK", **more: str) -> Archive:
        headers = [("Content-Type", kind), *((key.replace("_", "-"), value) for key, value in more.items())]
        http = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
        return self.add("response", body, number, http)

    @property
    def raw(self) -> bytes:
        return self.out.getvalue()


def rows(folder: Path, raw: bytes, name: str) -> list[Row]:
    (folder / name).write_bytes(raw)
    return list(read(folder / name, name, Fields()))


def texts(read_rows: list[Row]) -> list[str]:
    return [row.text for row in read_rows if isinstance(row, Document)]


def rejects(read_rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.position, row.reason) for row in read_rows if isinstance(row, Reject)]


@pytest.mark.parametrize("name", ["a.wet", "a.warc", "a.warc.wet.gz", "a.wet.bz2"])
def test_texts_of_a_wet_file(tmp_path: Path, name: str) -> None:
    archive = Archive(gz=name.endswith("gz")).add("warcinfo", b"software: x\r\n")
    raw = archive.text(1, "Eins.\nZwei.").text(2, "第三。").raw
    raw = bz2.compress(raw) if name.endswith("bz2") else raw
    meta = {"url": f"{URL}1", "date": "2024-05-01T12:00:00Z"}
    read_rows = rows(tmp_path, raw, name)
    assert read_rows[0] == Document(f"{name}:00000001-0000-0000-0000-000000000000", "Eins.\nZwei.", name, 2, meta)
    assert texts(read_rows) == ["Eins.\nZwei.", "第三。"]


@pytest.mark.parametrize("gz", [False, True])
def test_main_text_of_pages(tmp_path: Path, gz: bool) -> None:
    archive = Archive(gz).add("warcinfo", b"x").add("request", b"GET / HTTP/1.1\r\n\r\n").add("metadata", b"x")
    archive.page(1, PAGE.format(head="", text="Ein Satz mit Umlauten: äöü.").encode(), "text/html; charset=utf-8")
    archive.page(2, b"\x89PNG", "image/png")
    archive.page(3, PAGE.format(head="", text="Nicht gefunden.").encode(), status="404 Not Found")
    archive.page(4, PAGE.format(head="", text="Noch ein Satz, der lang genug ist.").encode(), "application/xhtml+xml")
    read_rows = rows(tmp_path, archive.raw, "a.warc.gz" if gz else "a.warc")
    assert len(read_rows) == 2 and all(isinstance(row, Document) for row in read_rows)
    for row, sentence in zip(texts(read_rows), ("Ein Satz mit Umlauten: äöü.", "Noch ein Satz, der lang"), strict=True):
        assert "Grüße" in row and sentence in row and "Home" not in row and "var x" not in row
    assert [row.position for row in read_rows] == [4, 7]


@pytest.mark.parametrize(
    ("kind", "head", "encoding"),
    [
        ("text/html; charset=iso-8859-1", "", "latin-1"),
        ("text/html", '<meta charset="windows-1251">', "cp1251"),
        ("text/html", '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "shift_jis"),
        ("text/html; charset=no-such", '<meta charset="utf-8">', "utf-8"),
        ("text/html", "", "utf-8"),
    ],
)
def test_charsets(tmp_path: Path, kind: str, head: str, encoding: str) -> None:
    words = {"cp1251": "Съешь ещё этих мягких французских булок", "shift_jis": "日本語の文章です。とても長いです。"}
    text = words.get(encoding, "Voilà une phrase élégante, où tout va bien.")
    page = PAGE.replace("Grüße", "Titel").format(head=head, text=text).encode(encoding)
    [row] = rows(tmp_path, Archive().page(1, page, kind).raw, "a.warc")
    assert isinstance(row, Document) and text in row.text


def test_encoded_bodies(tmp_path: Path) -> None:
    body = PAGE.format(head="", text="Ein Satz, der gepackt war.").encode()
    archive = Archive().page(1, gzip.compress(body), Content_Encoding="gzip")
    archive.page(2, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), Transfer_Encoding="chunked")
    read_rows = rows(tmp_path, archive.raw, "a.warc")
    assert len(texts(read_rows)) == 2 and all("Ein Satz, der gepackt war." in text for text in texts(read_rows))


def three(gz: bool) -> Archive:
    archive = Archive(gz)
    for number in (1, 2, 3):
        archive.text(number, f"This is text number {number}, and it is long enough to be cut. " * 20)
    return archive


def damage(archive: Archive, how: str) -> bytes:
    """The archive with its second record damaged."""
    raw, (start, end) = bytearray(archive.raw), archive.starts[1:3]
    record = bytes(raw[start:end])
    if how == "flip":
        raw[(start + end) // 2] ^= 0x55
        return bytes(raw)
    changed = {
        "cut": record[: len(record) // 2],
        "no start": b"junk\r\n" + record[9:],
        "zeros": b"\0" * len(record),
        "no length": record.replace(b"Content-Length", b"Content-Width"),
        "length too great": record.replace(b"Content-Length: ", b"Content-Length: 1"),
        "length far too great": record.replace(b"Content-Length: ", b"Content-Length: 99999"),
        "length too small": record.replace(b"Content-Length: 1", b"Content-Length: "),
        "no utf-8": record.replace(b"text number", b"text \xff\xfe\xfdmber").replace(
            b"WARC-Block-Digest", b"WARC-Other"
        ),
        "empty": Archive().text(2, " ").raw,
    }[how]
    return bytes(raw[:start]) + changed + bytes(raw[end:])


HARM = ["cut", "flip", "no start", "zeros", "no length", "length too great", "length far too great"]


@pytest.mark.parametrize("how", [*HARM, "length too small", "no utf-8", "empty"])
def test_a_damaged_record_costs_that_record(tmp_path: Path, how: str) -> None:
    read_rows = rows(tmp_path, damage(three(gz=False), how), "a.warc")
    assert [text.split(",")[0][-1] for text in texts(read_rows)] == ["1", "3"]
    [(position, reason)] = rejects(read_rows)
    assert position == 2 and reason.startswith("no text on the page" if how == "empty" else "damaged record at byte ")


@pytest.mark.parametrize("how", ["cut", "flip", "zeros"])
def test_a_damaged_member_costs_its_record(tmp_path: Path, how: str) -> None:
    archive = three(gz=True)
    read_rows = rows(tmp_path, damage(archive, how), "a.warc.gz")
    assert [text.split(",")[0][-1] for text in texts(read_rows)] == ["1", "3"]
    [(position, reason)] = rejects(read_rows)
    assert position == 2 and reason.startswith(f"damaged record at byte {archive.starts[1]:,}: ")


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_the_last_record_cut_short(tmp_path: Path, name: str) -> None:
    read_rows = rows(tmp_path, three(name.endswith("gz")).raw[:-40], name)
    assert len(texts(read_rows)) == 2
    [(position, reason)] = rejects(read_rows)
    assert position == 3 and reason.startswith("damaged record at byte ")


def test_one_member_for_the_whole_archive(tmp_path: Path) -> None:
    assert len(texts(rows(tmp_path, gzip.compress(three(False).raw), "a.warc.gz"))) == 3


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.warc", three(False).raw)
        archive.writestr("b.warc.gz", three(True).raw)
    read_rows = list(read(tmp_path / "a.zip", "a.zip", Fields()))
    assert len(texts(read_rows)) == 6 and len({row.name for row in read_rows if isinstance(row, Document)}) == 6


@pytest.mark.parametrize(
    ("raw", "name", "reason"),
    [
        (b"", "a.warc", "the archive holds no page"),
        (b"", "a.warc.gz", "the archive holds no page"),
        (b"no archive", "a.warc", "damaged record at byte 0: no record begins here"),
        (b"no archive", "a.warc.gz", "damaged record at byte 0: no gzip member begins here"),
        (Archive().add("warcinfo", b"x").raw, "a.warc", "the archive holds no page"),
        (b"WARC/1.0\r\nContent-Length: 5\r\n", "a.warc", "damaged record at byte 0: its header does not end"),
        (b"WARC/1.0\r\n" + b"x: y\r\n" * 20_000, "a.warc", "damaged record at byte 0: its header does not end"),
    ],
)
def test_a_file_without_pages_is_one_reject(tmp_path: Path, raw: bytes, name: str, reason: str) -> None:
    [(position, message)] = rejects(rows(tmp_path, raw, name))
    assert position == 1 and message.startswith(reason)


def test_what_is_too_long_or_expands_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 5000)
    raw = Archive().text(1, "One.").text(2, "x" * 10_000).text(3, "Three.").raw
    read_rows = rows(tmp_path, raw, "a.warc")
    assert texts(read_rows) == ["One.", "Three."]
    [(position, reason)] = rejects(read_rows)
    assert position == 2 and reason.endswith("longer than 5,000 bytes")
    bomb = Archive().page(1, gzip.compress(b"<p>" + b"x " * 1_000_000), Content_Encoding="gzip").raw
    [(_, reason)] = rejects(rows(tmp_path, bomb, "a.warc"))
    assert reason == "longer than 5,000 bytes"
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 16)
    monkeypatch.setattr(compressed, "MAX_EXPANSION", 10)
    raw = Archive(gz=True).text(1, "One.").text(2, "x" * 4_000_000).text(3, "Three.").raw
    read_rows = rows(tmp_path, raw, "a.warc.gz")
    assert texts(read_rows) == ["One.", "Three."] and "expands more than 10-fold" in rejects(read_rows)[0][1]


PLAIN, GZIPPED = three(False).raw, three(True).page(4, PAGE.format(head="", text="A sentence.").encode()).raw


@settings(max_examples=200, deadline=None)
@given(
    gz=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 1 << 20)),
)
def test_whatever_the_bytes_reading_goes_on(
    tmp_path_factory: pytest.TempPathFactory, gz: bool, flips: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(GZIPPED if gz else PLAIN)
    for place, value in flips:
        data[place % len(data)] = value
    name = "a.warc.gz" if gz else "a.warc"
    read_rows = rows(tmp_path_factory.mktemp("fuzz"), bytes(data[: cut and cut % len(data)]), name)
    assert read_rows, "a file that yields nothing was lost without a word"
    for row in read_rows:
        assert row.position >= 1
        assert row.text.strip() if isinstance(row, Document) else row.reason, row
    if cut is None:  # every record is kept or rejected; damage may make more of one
        assert len(read_rows) >= 1 and len({row.position for row in read_rows}) == len(read_rows)


@settings(max_examples=60, deadline=None)
@given(gz=st.booleans(), kinds=st.lists(st.sampled_from(["good", "cut", "zeros", "empty", "other"]), max_size=10))
def test_each_record_is_kept_or_rejected(tmp_path_factory: pytest.TempPathFactory, gz: bool, kinds: list[str]) -> None:
    raw, expected = b"", []
    for i, kind in enumerate(kinds, 1):
        archive = Archive(gz)
        if kind == "other":
            archive.add("metadata", b"x" * 300, i)
        else:
            archive.text(i, " " if kind == "empty" else "Text. " * 50)
        if kind in ("cut", "zeros"):
            kept = archive.raw[: len(archive.raw) // 2]
            raw += kept if kind == "cut" else b"\0" * len(kept)
        else:
            raw += archive.raw
        if kind != "other":
            expected.append((kind, i))
    read_rows = rows(tmp_path_factory.mktemp("web"), raw, "a.warc.gz" if gz else "a.warc")
    good = [row.name.partition(":")[2][:8] for row in read_rows if isinstance(row, Document)]
    assert good == [f"{i:08d}" for kind, i in expected if kind == "good"]
    empty = [row for row in read_rows if isinstance(row, Reject) and row.reason == "no text on the page"]
    assert len(empty) == kinds.count("empty")
    damaged = len(read_rows) - len(good) - len(empty)
    harmed = kinds
    while gz and harmed and harmed[-1] == "zeros":  # padding
        harmed = harmed[:-1]
    assert damaged >= (any(kind in ("cut", "zeros") for kind in harmed) or not (good or empty))
    assert damaged <= max(1, kinds.count("cut") + kinds.count("zeros"))  # zeros behind a torn record are its rest
    assert all(row.reason and row.position >= 1 for row in read_rows if isinstance(row, Reject))
