"""Files that are not UTF-8: read by the encoding of their source, which leaves those alone that are UTF-8."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.sources.config import SourceConfig
from data_prep.sources.records import Document, Fields, Reject, Row
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import documents
from data_prep.text.formats.formats import read_opened
from data_prep.text.ingest.plan import plan

WORDS = "Größe, façade – „schön“ für 5 €"


def rows(path: Path, encoding: str | None) -> list[Row]:
    return list(documents(SourceConfig(path=str(path), encoding=encoding), path.parent / "downloads"))


def files(encoding: str) -> dict[str, bytes]:
    quoted = WORDS.replace(",", "")
    return {
        "a.txt": WORDS.encode(encoding),
        "a.csv": f"title,text\nfür,{quoted}\n".encode(encoding),
        "a.tsv": f"title\ttext\nfür\t{quoted}\n".encode(encoding),
        "a.jsonl": (json.dumps({"text": WORDS}, ensure_ascii=False) + "\n").encode(encoding),
        "a.json": json.dumps([{"text": WORDS}], ensure_ascii=False).encode(encoding),
        "a.csv.gz": gzip.compress(f"text\n{quoted}\n".encode(encoding)),
    }


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32", "gb18030", "utf-8"])
@pytest.mark.parametrize("name", files("utf-8"))
def test_a_file_is_read_by_its_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(files(encoding)[name])
    (row,) = rows(tmp_path / name, encoding)
    assert isinstance(row, Document) and row.text.replace(",", "") == WORDS.replace(",", "")


@pytest.mark.parametrize("name", files("utf-8"))
def test_files_that_are_utf8_stay_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(files("utf-8")[name])
    (row,) = rows(tmp_path / name, "cp1252")
    assert isinstance(row, Document) and row.text.replace(",", "") == WORDS.replace(",", "")


@pytest.mark.parametrize(
    ("raw", "encoding", "reason"),
    [
        ("Größe".encode("latin-1"), None, "not UTF-8: byte 0xf6 at offset 2; set the encoding of its source, such as"),
        ("Größe".encode("utf-16"), None, "set the encoding of its source: utf-16"),
        (b"\x81\x8d", "cp1252", "neither UTF-8 nor"),
    ],
)
def test_a_book_in_another_encoding_is_named_with_the_cure(
    tmp_path: Path, raw: bytes, encoding: str | None, reason: str
) -> None:
    (tmp_path / "book.txt").write_bytes(raw)
    (row,) = rows(tmp_path / "book.txt", encoding)
    assert isinstance(row, Reject) and reason in row.reason


@pytest.mark.parametrize("encoding", ["rot13", "base64", "nonsense", ""])
def test_what_is_no_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ValidationError, match="no encoding of text is called"):
        SourceConfig(path="x", encoding=encoding)


def test_files_are_read_again_with_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    keys = {
        plan([SourceConfig(path=str(tmp_path), encoding=encoding)], CleanConfig(), tmp_path / "d")[0].key
        for encoding in (None, "cp1252", "latin-1")
    }
    assert len(keys) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=8), st.sampled_from(["cp1252", "shift_jis", "utf-16", "utf-7", None]))
def test_whatever_the_bytes_every_line_is_kept_or_rejected(lines: list[bytes], encoding: str | None) -> None:
    from io import BytesIO

    raw = b"text\n" + b"\n".join(lines)
    for name in ("a.csv", "a.jsonl", "a.txt"):
        rows = list(read_opened(lambda: BytesIO(raw), len(raw), name, Fields(encoding=encoding)))
        assert rows and all(isinstance(row, Document | Reject) for row in rows)
