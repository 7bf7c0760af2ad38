"""Every format, behind every compression and in every archive, and everything that can be wrong with them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.sources import compressed, records
from data_prep.sources.records import Document, Fields, Reject, Row
from data_prep.text.formats import formats, tables
from data_prep.text.formats.formats import read

TEXTS = [
    "First text.",
    "Second, with a comma \u2013 and\na line.",
    "\u7b2c\u4e09\u3002",  # Chinese
    "\U0001f600 fourth",
    "\u05e9\u05dc\u05d5\u05dd",  # right to left
]
TABLE = pa.table({"text": TEXTS, "id": [f"n{i}" for i in range(5)], "year": list(range(1990, 1995))})


def zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def separated(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(TABLE.column_names)
    writer.writerows(zip(*TABLE.to_pydict().values(), strict=True))
    return out.getvalue().encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, row_group_size=2)
    return sink.getvalue()


def ipc(new: Callable[..., Any]) -> bytes:
    sink = io.BytesIO()
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return sink.getvalue()


FILES = {
    "a.csv": separated(","),
    "a.tsv": separated("\t"),
    "a.parquet": parquet(),
    "file.arrow": ipc(pa.ipc.new_file),
    "stream.arrow": ipc(pa.ipc.new_stream),
}


def rows(path: Path, **fields: Any) -> list[Row]:
    return list(read(path, path.name, Fields(**fields)))


def put(folder: Path, name: str, raw: bytes) -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", FILES)
def test_tables(tmp_path: Path, name: str, suffix: str) -> None:
    path = put(tmp_path, name + suffix, COMPRESS[suffix](FILES[name]))
    read_rows = rows(path, identity="id")
    assert all(isinstance(row, Document) for row in read_rows), read_rows
    assert [row.text for row in read_rows] == TEXTS  # type: ignore[union-attr]
    assert [row.name for row in read_rows] == ["n0", "n1", "n2", "n3", "n4"]  # type: ignore[union-attr]
    assert {str(row.meta["year"]) for row in read_rows} == {str(year) for year in range(1990, 1995)}  # type: ignore[union-attr]
    unnamed = rows(path)
    assert len({row.name for row in unnamed}) == 5  # type: ignore[union-attr]


def test_a_dictionary_column_is_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert [row.text for row in rows(tmp_path / "a.parquet")] == ["a", "b", "a"]  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "a.tar"])
def test_what_is_no_run_of_rows_is_lost_if_it_is_cut_short(tmp_path: Path, name: str, suffix: str) -> None:
    raw = FILES.get(name, b'{"text": "some words"}\n' * 100)
    path = put(tmp_path, name + suffix, COMPRESS[suffix](raw)[:-7])
    [reject] = rows(path)
    assert isinstance(reject, Reject) and reject.lost and reject.reason.startswith("damaged "), reject


def bad_csv(body: bytes) -> bytes:
    return b"id,text\n1,good\n" + body + b"9,also good\n"


@pytest.mark.parametrize(
    ("raw", "position", "reason"),
    [
        (bad_csv(b"2\n"), 3, "expected 2 fields as in the header, found 1"),
        (bad_csv(b"2,a,b\n"), 3, "expected 2 fields as in the header, found 3"),
        (bad_csv(b"2,\xff\n"), 3, "not UTF-8"),
        (bad_csv(b"2, \n"), 3, "field 'text' is empty"),
        (bad_csv(b'2,"a"b,c\n'), 3, "not CSV: ',' expected after"),
    ],
)
def test_a_bad_row_of_a_table_costs_that_row(tmp_path: Path, raw: bytes, position: int, reason: str) -> None:
    read_rows = rows(put(tmp_path, "a.csv", raw))
    assert [row.text for row in read_rows if isinstance(row, Document)] == ["good", "also good"]
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert reject.position == position and reject.reason.startswith(reason)


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.csv", b"", "empty file"),
        ("a.csv", b"id,text\n", "no row below the header"),
        ("a.csv", b"id,words\n1,x\n", "no column 'text'; found 'id', 'words'"),
        ("a.parquet", b"", "damaged file, not read from here on: "),
        ("a.parquet", b"PAR1 no PAR1", "damaged file, not read from here on: "),
        ("a.arrow", b"", "damaged file, not read from here on: "),
        ("a.arrow", b"ARROW1 no", "damaged file, not read from here on: "),
        ("a.zip", b"no zip", "damaged archive: File is not a zip file"),
        ("a.tar", b"", "damaged archive: "),
    ],
)
def test_a_bad_file_is_one_reject(tmp_path: Path, name: str, raw: bytes, reason: str) -> None:
    [reject] = rows(put(tmp_path, name, raw))
    assert isinstance(reject, Reject) and reject.reason.startswith(reason), reject


def test_a_table_of_another_type_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    [reject] = rows(tmp_path / "a.parquet")
    assert isinstance(reject, Reject) and reject.reason == "column 'text': expected strings, found int64"
    pq.write_table(pa.table({"text": ["a", None, "b"]}), tmp_path / "b.parquet")
    read_rows = rows(tmp_path / "b.parquet")
    assert [type(row) for row in read_rows] == [Document, Reject, Document]
    assert read_rows[1].position == 2 and read_rows[1].reason == "field 'text': expected a string, found null"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_an_endless_line_is_passed_over_in_little_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1000)
    good = [b"text\n"] if name == "a.csv" else [b'{"text": "one"}\n']
    bad = (b'{"text": "' if name == "a.jsonl" else b"") + b"x" * 30_000_000 + b"\n"
    last = b'{"text": "two"}\n' if name == "a.jsonl" else b"two\n"
    path = put(tmp_path, name, b"".join([*good, bad, last]))
    del bad
    tracemalloc.start()
    read_rows = rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert (reject.position, reject.reason) == (2, "longer than 1,000 bytes")
    assert [row.text for row in read_rows if isinstance(row, Document)][-1] == "two"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_bomb_is_refused(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(compressed, "MAX_EXPANSION", 100)
    raw = b" " * (32 << 20)
    path = tmp_path / f"a.jsonl{suffix}"
    if suffix == ".zip":
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", raw)
    else:
        path.write_bytes(COMPRESS[suffix](raw))
    [reject] = rows(path)
    assert isinstance(reject, Reject) and "expands more than 100-fold" in reject.reason


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


MEMBERS = {
    "b.txt": b"plain",
    "deep/a.jsonl.gz": gzip.compress(b'{"text": "packed"}\n'),
    "deep/t.parquet": FILES["a.parquet"],
    "image.png": b"no text",
    ".hidden.txt": b"hidden",
    "empty.txt": b"",
}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"])
def test_members_of_an_archive_are_files_of_a_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    mode = {"a.tar": "w", "a.tgz": "w:gz"}.get(name, "w:" + name.rpartition(".")[2])
    read_rows = rows(zipped(path, MEMBERS) if name == "a.zip" else tar(path, MEMBERS, mode))
    documents = {row.name: row.text for row in read_rows if isinstance(row, Document)}
    assert documents[f"{name}/b.txt"] == "plain"
    assert documents[f"{name}/deep/a.jsonl.gz:1"] == "packed"
    assert [text for key, text in documents.items() if "parquet" in key] == TEXTS
    assert len(documents) == 7
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert (reject.source, reject.reason) == (f"{name}/empty.txt", "empty file")


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("member", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, make: Callable[..., Path], member: str) -> None:
    path = make(tmp_path / ("a.tar" if make is tar else "a.zip"), {member: b"x", "good.txt": b"good"})
    read_rows = rows(path)
    assert [row.text for row in read_rows if isinstance(row, Document)] == ["good"]
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert "would leave the archive" in reject.reason


def test_links_and_devices_of_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind!r}.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    link = "a link to '/etc/passwd', which is not in the archive"
    assert [row.reason for row in rows(tmp_path / "a.tar")] == [link, link, "not a plain file"]  # type: ignore[union-attr]


def test_a_member_with_a_wrong_check_sum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", "some words that will change")
        archive.writestr("b.txt", "good")
    path.write_bytes(path.read_bytes().replace(b"will change", b"did change!"))
    read_rows = rows(path)
    assert [row.text for row in read_rows if isinstance(row, Document)] == ["good"]
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert reject.source == "a.zip/a.txt" and "CRC" in reject.reason


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["a.txt", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "file.arrow", "stream.arrow", "a.zip"]),
    suffix=st.sampled_from(list(COMPRESS)),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 1 << 20)),
)
def test_whatever_the_bytes_reading_goes_on(
    tmp_path_factory: pytest.TempPathFactory, name: str, suffix: str, flips: list[tuple[int, int]], cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    raw = FILES.get(name, separated(","))
    if name == "a.zip":
        raw, suffix = zipped(folder / "made.zip", MEMBERS).read_bytes(), ""
    data = bytearray(COMPRESS[suffix](raw))
    for place, value in flips:
        data[place % len(data)] = value
    read_rows = rows(put(folder, name + suffix, bytes(data[: cut and cut % len(data)])))
    assert read_rows, "a file that yields nothing was lost without a word"
    for row in read_rows:
        assert row.position >= 1
        assert row.text.strip() if isinstance(row, Document) else row.reason, row


@pytest.mark.parametrize("free", [8 << 30, 1 << 20])
def test_a_length_that_asks_for_too_much_is_damage_only_where_there_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    def fails(file: object) -> None:
        raise MemoryError

    path = tmp_path / "a.arrow"
    pq.write_table(pa.table({"text": ["x"]}), path)
    monkeypatch.setattr(tables, "_arrow_groups", fails)
    monkeypatch.setattr(records.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    if free > records._ENOUGH:
        (row,) = formats.read(path, "a.arrow", Fields())
        assert isinstance(row, Reject) and row.reason == "damaged file, not read from here on: MemoryError"
    else:
        with pytest.raises(UserError, match=r"a\.arrow asks for more memory than there is"):
            list(formats.read(path, "a.arrow", Fields()))
