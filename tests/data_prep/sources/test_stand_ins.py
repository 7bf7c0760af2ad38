"""Pointers and web pages in place of files, and links in archives: named, or followed, never read as data."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from data_prep.errors import UserError
from data_prep.labelled.files import LabelledConfig, load
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.records import Document, Reject
from data_prep.tables.files import accepts, raw_batches
from data_prep.tables.schema import Raw
from data_prep.text.documents import documents

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
ANNEX = b"/annex/objects/SHA256E-s31390--f50d7ac4c6b9031379986bc362fcefb65f1e52621ce1708d537e740fefc59cc0.mp3\n"
PAGE = b"\n<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"
JSON = b'{"text": "Some words."}\n'


def read(path: Path) -> list[Document | Reject]:
    return list(documents(SourceConfig(path=str(path)), path.parent / "d"))


def of_tables(path: Path) -> list[Raw | Reject]:
    files = listed(SourceConfig(path=str(path)), accepts(None), path.parent / "d")
    return [batch for file in files for batch in raw_batches(file, None, ())]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl.gz", "a.parquet", "a.zip", "a.tar.gz", "a.xml.bz2"])
@pytest.mark.parametrize(
    ("raw", "command"), [(LFS, "git lfs pull"), (ANNEX, "git annex get")], ids=["git-lfs", "git-annex"]
)
def test_a_pointer_is_not_the_file(tmp_path: Path, name: str, raw: bytes, command: str) -> None:
    (tmp_path / name).write_bytes(raw)
    (reject,) = read(tmp_path / name)
    assert isinstance(reject, Reject) and reject.lost and f"pointer, not the file: run `{command}`" in reject.reason
    if not name.endswith((".txt", ".zip", ".tar.gz", ".bz2")):
        assert [part.reason for part in of_tables(tmp_path / name) if isinstance(part, Reject)] == [reject.reason]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.txt", raw)
    (reject,) = read(tmp_path / "all.zip")
    assert isinstance(reject, Reject) and command in reject.reason and reject.source == "all.zip/a.txt"


def test_a_text_that_tells_of_pointers_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"A pointer begins like this:\n" + LFS)
    (tmp_path / "b.txt").write_bytes(PAGE)
    assert all(isinstance(row, Document) for name in "ab" for row in read(tmp_path / f"{name}.txt"))


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl.gz", "a.parquet", "a.arrow", "a.zip", "a.tgz"])
def test_a_web_page_is_not_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PAGE)
    (reject,) = read(tmp_path / name)
    assert isinstance(reject, Reject) and reject.reason == "a web page, not the file: download it again"


def test_labels_are_not_read_from_pointers(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(LFS)
    with pytest.raises(UserError, match="is a git-LFS pointer, not the file"):
        load(LabelledConfig(path=str(tmp_path / "a.tsv")), tmp_path)


def test_feather_is_arrow_but_not_its_first_version(tmp_path: Path) -> None:
    feather.write_feather(pa.table({"text": ["one", "two"]}), str(tmp_path / "a.feather"))
    assert [row.text for row in read(tmp_path / "a.feather") if isinstance(row, Document)] == ["one", "two"]
    (batch,) = of_tables(tmp_path / "a.feather")
    assert isinstance(batch, Raw) and batch.columns["text"].to_pylist() == ["one", "two"]
    (tmp_path / "b.arrow").write_bytes(b"FEA1" + bytes(100))
    (reject,) = read(tmp_path / "b.arrow")
    assert isinstance(reject, Reject) and "Feather's first version" in reject.reason


def tar(*members: tuple[str, bytes | tuple[bytes, str]]) -> bytes:
    """An archive of files, by their contents, and of links, by their types and targets."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_links_in_an_archive_mean_its_files(tmp_path: Path, compress: type[bytes]) -> None:
    symbolic, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    raw = tar(
        ("in/a.jsonl", JSON),
        ("in/b.jsonl", (symbolic, "a.jsonl")),
        ("c.jsonl", (hard, "in/a.jsonl")),
        ("in/d.jsonl", (symbolic, "../c.jsonl")),
        ("all", (symbolic, "in")),
        ("in", (tarfile.DIRTYPE, "")),
        ("x.jsonl", (symbolic, "/etc/passwd")),
        ("y.jsonl", (symbolic, "y.jsonl")),
        ("z.jsonl", (tarfile.FIFOTYPE, "")),
    )
    path = tmp_path / ("a.tar" if compress is bytes else "a.tar.gz")
    path.write_bytes(compress(raw))
    rows = read(path)
    sources = [f"{path.name}/{name}.jsonl" for name in ("c", "in/a", "in/b", "in/d")]
    assert [row.source for row in rows if isinstance(row, Document)] == sources
    assert [row.reason for row in rows if isinstance(row, Reject)] == [
        "a link to '/etc/passwd', which is not in the archive",
        "a link to 'y.jsonl', which is not in the archive",
        "not a plain file",
    ]


def test_a_member_that_is_cut_short_is_lost_once(tmp_path: Path) -> None:
    raw = tar(("a.jsonl", JSON * 9), ("b.jsonl", JSON * 99))
    (tmp_path / "a.tar").write_bytes(raw[: 4 * 512 + 24 * 30])
    lost = [row for row in read(tmp_path / "a.tar") if isinstance(row, Reject) and row.lost]
    assert [(row.source, row.reason) for row in lost] == [("a.tar/b.jsonl", "damaged archive: it is cut short")]
    tables = [part for part in of_tables(tmp_path / "a.tar") if isinstance(part, Reject)]
    assert [part.source for part in tables] == ["a.tar/b.jsonl"]
    (tmp_path / "a.tar").write_bytes(tar(("a.jsonl", JSON * 9), ("b.pdf", JSON * 99))[: 4 * 512 + 24 * 30])
    lost = [row for row in read(tmp_path / "a.tar") if isinstance(row, Reject)]
    assert [row.source for row in lost] == ["a.tar"], "what is not read cannot tell"
