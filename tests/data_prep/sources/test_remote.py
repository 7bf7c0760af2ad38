"""Sources on other file systems, against a server that speaks the S3 protocol."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.shards.reader import ShardDamaged, Shards
from data_prep.shards.remote import RemoteShards, open_shards
from data_prep.shards.rows import Ragged, ragged
from data_prep.shards.writer import ShardWriter
from data_prep.sources import config, files
from data_prep.sources.config import SourceConfig, digest, licence, parts, snapshot
from data_prep.sources.files import RemoteFile, find, sibling
from data_prep.sources.records import Document
from data_prep.text.documents import TEXT, documents, rows

server = pytest.importorskip("moto.server", reason="the S3 server for tests is not installed")

Put = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of an S3 server on this machine."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()


@pytest.fixture
def options(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What comes behind a path so that it means the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"?scheme=http&endpoint_override={endpoint}&region=us-east-1&allow_bucket_creation=true"


@pytest.fixture
def bucket(options: str, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    system, _ = files._system(f"s3://{name}{options}", os.getpid())
    system.create_dir(name)
    return name


@pytest.fixture
def put(bucket: str, options: str) -> Put:
    def put(key: str, raw: bytes) -> None:
        system, _ = files._system(f"s3://{bucket}{options}", os.getpid())
        with system.open_output_stream(f"{bucket}/{key}", compression=None) as stream:
            stream.write(raw)

    return put


def names(uri: str) -> list[str]:
    return [entry.name for entry in snapshot([SourceConfig(path=uri)], TEXT)]


def numbered(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"Text {number}."}).encode() + b"\n" for number in range(count))


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [f"Row {number}." for number in range(9)]}), sink, row_group_size=3)
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.txt", "In an archive.")
    return sink.getvalue()


FILES = {
    "data/a.txt": b"Text.",
    "data/b.jsonl": numbered(40),
    "data/c.jsonl.gz": gzip.compress(numbered(3)),
    "data/deep/d.parquet": parquet(),
    "data/deep/e.zip": zipped(),
    "data/deep/a name?with #odd%20signs é.txt": b"Odd.",
    "data/.hidden/x.txt": b"Hidden.",
    "data/notes.md": b"No.",
    "other/f.txt": b"Other.",
}


def test_rows_are_those_of_the_same_files_here(
    bucket: str, options: str, put: Put, tmp_path: Path, downloads: Path
) -> None:
    for key, raw in FILES.items():
        put(key, raw)
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(raw)
    here = SourceConfig(path=str(tmp_path / "data"))
    there = SourceConfig(path=f"s3://{bucket}/data{options}")
    expected = list(documents(here, downloads))
    assert len(expected) == 55
    assert list(documents(there, downloads)) == expected
    assert digest(snapshot([there], TEXT), downloads) == digest(snapshot([here], TEXT), downloads)
    for target in (1, 200, 1 << 20):
        planned = parts(there, TEXT, downloads, target)
        assert [row for part in planned for row in rows(part, there, downloads)] == expected
        assert [part.digest for part in planned] == [part.digest for part in parts(here, TEXT, downloads, target)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "data/a.txt other/f.txt"),
        ("/data", "a.txt"),
        ("/data/", "a.txt"),
        ("/data/a.txt", "a.txt"),
        ("/*/*.txt", "data/a.txt other/f.txt"),
        ("/**/f.*", "other/f.txt"),
        ("/data/a*", "a.txt"),
        ("/d*/**", "data/a.txt"),
    ],
)
def test_files_folders_and_globs(bucket: str, options: str, put: Put, path: str, expected: str) -> None:
    for key in ("data/a.txt", "data/.h/b.txt", "other/f.txt", "data/x.md"):
        put(key, b"Text.")
    label = {"": bucket, "/data": "data", "/data/": "data", "/data/a.txt": "", "/data/a*": "data"}.get(path, bucket)
    assert names(f"s3://{bucket}{path}{options}") == [f"{label}/{name}".lstrip("/") for name in expected.split()]


def test_an_unchanged_file_is_not_read_again(
    bucket: str, options: str, put: Put, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.jsonl", numbered(100))
    source = SourceConfig(path=f"s3://{bucket}/a.jsonl{options}")
    first = parts(source, TEXT, downloads, 300)
    assert len(first) > 5
    monkeypatch.setattr(config, "open_file", lambda uri: pytest.fail(f"{uri} was read"))
    assert parts(source, TEXT, downloads, 300) == first


@pytest.mark.parametrize("harm", ["change", "delete"])
def test_a_change_after_planning_is_noticed(bucket: str, options: str, put: Put, downloads: Path, harm: str) -> None:
    put("a.jsonl", numbered(100))
    source = SourceConfig(path=f"s3://{bucket}/a.jsonl{options}")
    part = parts(source, TEXT, downloads, 300)[2]
    if harm == "change":
        put("a.jsonl", numbered(101))
    else:
        files._system(f"s3://{bucket}{options}", os.getpid())[0].delete_file(f"{bucket}/a.jsonl")
    message = "changed" if harm == "change" else "went away"
    with pytest.raises(UserError, match=f"^s3://{bucket}/a.jsonl {message} while it was read; run again"):
        list(rows(part, source, downloads))


def test_a_hugging_face_data_set(bucket: str, options: str, put: Put, downloads: Path) -> None:
    sink = io.BytesIO()
    table = pa.table({"text": ["One.", "Two."]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("data-0.arrow", "cache-1.arrow"):
        put(f"set/{name}", sink.getvalue())
    put("set/state.json", json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}).encode())
    assert names(f"s3://{bucket}/set{options}") == ["set/data-0.arrow"]


def test_a_part_is_read_by_another_process(bucket: str, options: str, put: Put, downloads: Path) -> None:
    put("a.jsonl", numbered(100))
    path = f"s3://{bucket}/a.jsonl{options}"
    part = parts(SourceConfig(path=path), TEXT, downloads, 300)[1]
    code = (
        "import sys; from pathlib import Path; from data_prep.sources.config import *\n"
        "from data_prep.text.documents import rows\n"
        "print(len(list(rows(eval(sys.argv[1]), SourceConfig(path=sys.argv[2]), Path('unused')))))"
    )
    done = subprocess.run([sys.executable, "-c", code, repr(part), path], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(list(rows(part, SourceConfig(path=path), downloads))) > 5


# -- errors of the user's ---------------------------------------------------------------------------------------------


def test_what_is_not_there(bucket: str, options: str, put: Put) -> None:
    put("data/a.md", b"x")
    with pytest.raises(UserError, match=f"s3://{bucket}/nothing does not exist; give a file, a folder or a glob"):
        names(f"s3://{bucket}/nothing{options}")
    with pytest.raises(UserError, match=f"s3://{bucket}/data holds no file whose name ends in one of"):
        names(f"s3://{bucket}/data{options}")
    with pytest.raises(UserError, match=r"a\.md is not a file that can be read; its name must end in"):
        names(f"s3://{bucket}/data/a.md{options}")


def test_no_such_bucket(options: str) -> None:
    for path in ("", "/data", "/data/*.txt"):
        with pytest.raises(
            UserError, match=r"^s3://no-such-bucket\S* (does not exist|cannot be read|holds no)"
        ) as caught:
            names(f"s3://no-such-bucket{path}{options}")
        assert "\n" not in str(caught.value)


def test_no_server(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"s3://b/data cannot be read \(.*; check that it exists, that the network"):
        names("s3://b/data?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1")


@pytest.mark.parametrize("path", ["http://host/a.txt", "nonsense://a/b"])
def test_no_such_file_system(path: str) -> None:
    with pytest.raises(UserError, match=r"is not read; allowed: files, or one of s3"):
        names(path)


@pytest.mark.parametrize(
    "path",
    [
        *("s3://key:word@bucket/a.txt", "abfs://c@account/a?client_secret=x", "s3://b/a?scheme=http&access_key=x"),
        *("abfs://c@account/a?%73ig=x", "s3://b/a?%61ccess%5fkey=x", "s3://b/a?region=eu%26sig=x"),
        *("s3://b/a?endpoint_override=http://u:word@host:9", "s3://b/a?endpoint_override=http%3A%2F%2Fu:word@host"),
    ],
)
def test_passwords_are_not_recorded(path: str) -> None:
    with pytest.raises(ValidationError, match="'path' holds a password") as caught:
        SourceConfig(path=path)
    assert "word@" not in caught.value.errors()[0]["msg"]


def test_licence_names_a_path_without_options() -> None:
    assert licence(SourceConfig(path="s3://me@bucket/a.txt?region=x")) == "s3://bucket/a.txt: not stated"


def test_trouble_while_reading_is_no_reject(
    bucket: str, options: str, put: Put, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that fails half-way must not make a shorter corpus."""
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet", "a.zip"):
        raw = {"z": gzip.compress(numbered(9)), "t": parquet(), "p": zipped()}.get(name[-1], numbered(9))
        put(name, raw)

    class Broken:
        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, size: int) -> bytes:
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56\nmore")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    real = RemoteFile.__init__

    def opened(self: RemoteFile, uri: str) -> None:
        real(self, uri)
        self._file = Broken(self._file)

    monkeypatch.setattr(RemoteFile, "__init__", opened)
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet", "a.zip"):
        with pytest.raises(UserError, match=r"cannot be read \(AWS Error NETWORK_CONNECTION .* curlCode: 56\); check"):
            list(documents(SourceConfig(path=f"s3://{bucket}/{name}{options}"), downloads))


def test_files_of_this_machine_by_uri(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a b.txt").write_text("Text.")
    uri = (tmp_path / "a b.txt").as_uri()
    assert list(documents(SourceConfig(path=uri), downloads)) == [Document("a b.txt", "Text.", "a b.txt", 1)]
    assert find(uri).files[0].uri == str(tmp_path / "a b.txt")
    assert sibling(str(tmp_path / "a b.txt"), "c") == str(tmp_path / "c")


# -- shards -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(put: Put, bucket: str, options: str, tmp_path: Path) -> str:
    """URI of shards on the server; the same lie in `tmp_path / "shards"`."""
    writer = ShardWriter(tmp_path / "shards", 200, 64)
    lengths = np.arange(500) % 17
    ids = np.random.default_rng(0).integers(0, 60_000, int(lengths.sum())).astype(np.uint16)
    frames = Ragged.from_lengths(ids[:, None].astype(np.float16) * np.ones(3, np.float16), lengths)
    labels = (np.arange(500) % 2).astype(np.uint8)
    writer.write({"input": Ragged.from_lengths(ids, lengths), "frames": frames, "label": labels})
    writer.close()
    for path in (tmp_path / "shards").iterdir():
        put(f"store/train/{path.name}", path.read_bytes())
    return f"s3://{bucket}/store/train{options}"


def test_shards_are_read_where_they_lie(remote: str, tmp_path: Path) -> None:
    here, there = Shards(tmp_path / "shards"), open_shards(remote, tmp_path / "cache")
    for index in (np.arange(500), np.array([499, 3, 3, 250]), np.arange(0)):
        expected, actual = here.read(index), there.read(index)
        assert ragged(actual, "input").values.tolist() == ragged(expected, "input").values.tolist()
        assert ragged(actual, "frames").values.tobytes() == ragged(expected, "frames").values.tobytes()
        assert np.array_equal(np.asarray(actual["label"]), np.asarray(expected["label"]))
    assert there.verify() == [] and len(there) == 500
    again = pickle.loads(pickle.dumps(there))
    assert ragged(again.read([7]), "input").values.tolist() == ragged(here.read([7]), "input").values.tolist()


def test_what_was_fetched_is_not_fetched_again(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_shards(remote, tmp_path / "cache").read(np.arange(100))
    asked: list[int] = []
    fetch = RemoteShards._range
    monkeypatch.setattr(RemoteShards, "_range", lambda self, s, part: asked.append(part.start) or fetch(self, s, part))
    shards = open_shards(remote, tmp_path / "cache")
    shards.read(np.arange(100))
    assert asked == []
    shards.read([130, 150])
    assert len(asked) == 1


def test_the_cache_stays_within_its_limit(remote: str, tmp_path: Path) -> None:
    shards, order = open_shards(remote, tmp_path / "cache", 3000), np.random.default_rng(0).permutation(500)
    expected = Shards(tmp_path / "shards").read(order)
    for start in range(0, 500, 25):
        rows = shards.read(order[start : start + 10])["input"]
        assert np.array_equal(rows.row(0), expected["input"].row(start))  # type: ignore[union-attr]
        shards._views.clear()
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 3000 + 2500  # one more batch


def test_damage_in_the_cache_is_mended_and_in_the_store_is_named(remote: str, put: Put, tmp_path: Path) -> None:
    open_shards(remote, tmp_path / "cache").read(np.arange(500))
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"x" * path.stat().st_size)
    column = open_shards(remote, tmp_path / "cache").read(np.arange(500))["input"]
    assert np.array_equal(column.values, Shards(tmp_path / "shards").read(np.arange(500))["input"].values)  # type: ignore[union-attr]
    data = bytearray((tmp_path / "shards" / "shard-00001.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    put("store/train/shard-00001.arrow", bytes(data))
    with pytest.raises(ShardDamaged, match=r"s3://bucket-\d+/store/train/shard-00001\.arrow is damaged in its record"):
        open_shards(remote, tmp_path / "empty").read(np.arange(500))
    assert len(open_shards(remote, tmp_path / "empty").verify()) == 1


def test_no_shards_there_is_one_sentence(bucket: str, options: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"s3://{bucket}/none holds no finished shards"):
        open_shards(f"s3://{bucket}/none{options}", tmp_path / "cache")
