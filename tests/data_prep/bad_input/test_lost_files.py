"""Files that are lost, wholly or from some row on: counted as files, named, and compared with what is allowed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import ingest as module
from data_prep.errors import UserError
from data_prep.images.kind import ImagesData
from data_prep.kinds import kind_of
from data_prep.settings import with_new_defaults
from data_prep.sources import compressed, records
from data_prep.sources.config import SourceConfig
from data_prep.tables.kind import TableData
from data_prep.text.kind import TextData
from data_prep.text.rules.config import PersonalDataConfig, RulesConfig
from tests.data_prep.bad_input.checks import check, rejected, texts
from tests.data_prep.images.test_pixels import idx

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}
SUFFIX = {kind: suffix for suffix, kind in compressed.KINDS.items()}
ROWS = [f"Row {number} is a sound one." for number in range(200)]


def lines(rows: list[str]) -> bytes:
    return "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def ingest(path: Path, out: Path, lost: int | None = 0, **more: Any) -> dict[str, Any]:
    """A corpus of text, with the defaults of new recipes."""
    data = with_new_defaults(TextData(kind="text", sources=[SourceConfig(path=str(path), **more)], max_lost_files=lost))
    return module.ingest(kind_of("text"), data, 0, out, out.with_name(f"{out.name}-downloads"))


def not_utf8(*values: bytes) -> pa.Array:
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.ndjson", "a.json"])
def test_a_file_that_is_cut_short_gives_its_whole_rows_and_fails_the_stage(
    tmp_path: Path, name: str, kind: str
) -> None:
    raw = lines(ROWS) if "json" in name else "\n".join(["text", *ROWS, ""]).encode()
    packed = COMPRESS[kind](raw)
    half = compressed.checked(lambda: io.BytesIO(packed[: len(packed) * 2 // 3]), kind, len(packed)).usable or 0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sound.txt").write_text("Another file.")
    (tmp_path / "in" / f"{name}{SUFFIX[kind]}").write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(
        UserError, match=r"1 of 2 files are lost, wholly or .* data\.max_lost_files: 0 allows"
    ) as caught:
        ingest(tmp_path / "in", tmp_path / "out")
    assert f"in/{name}{SUFFIX[kind]} line " in str(caught.value) and "cut short" in str(caught.value)
    summary = ingest(tmp_path / "in", tmp_path / "again", lost=1)
    check(tmp_path / "again", summary)
    whole = raw[:half].count(b"\n") - ("json" not in name)
    assert sorted(texts(tmp_path / "again")) == sorted(["Another file.", *ROWS[: max(0, whole)]])
    assert (summary["lost_files"], summary["rejected"]) == (1, 1)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(COMPRESS)),
    pieces=st.lists(st.binary(max_size=3000), min_size=1, max_size=4),
    zeros=st.integers(0, 3) | st.just(10_240),
    cut=st.floats(0, 1),
)
def test_members_padding_and_every_cut(kind: str, pieces: list[bytes], zeros: int, cut: float) -> None:
    """All members of a file are read, and zeros after them; of a file that is cut, a beginning of them."""
    members = [COMPRESS[kind](piece) for piece in pieces]
    whole, raw = b"".join(pieces), b"".join(members) + bytes(zeros)
    assert compressed.checked(lambda: io.BytesIO(raw), kind, len(raw)) == compressed.Soundness()
    assert compressed.opened(io.BytesIO(raw), kind).read() == whole
    part = raw[: int(len(raw) * cut)]
    sound = compressed.checked(lambda: io.BytesIO(part), kind, len(part))
    recovered = compressed.usable(compressed.opened(io.BytesIO(part), kind), sound, by_line=False).read()
    assert whole.startswith(recovered)
    ends = np.cumsum([0, *map(len, members)]).tolist()
    assert bool(sound.problem) == (len(part) < len(raw) - zeros and len(part) not in ends[1:])
    assert len(recovered) >= sum(len(piece) for piece, end in zip(pieces, ends[1:], strict=True) if end <= len(part))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["gzip", "xz"]), place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_what_is_damaged_is_never_used(kind: str, place: int, flip: int) -> None:
    first, second = lines(ROWS[:20]), lines(ROWS[20:40])
    raw = bytearray(COMPRESS[kind](first) + COMPRESS[kind](second))
    raw[place % len(raw)] ^= flip
    sound = compressed.checked(lambda: io.BytesIO(bytes(raw)), kind, len(raw))
    recovered = compressed.usable(compressed.opened(io.BytesIO(bytes(raw)), kind), sound, by_line=True).read()
    assert recovered in (b"", first, first + second) or (
        sound.problem == "it is cut short" and recovered.startswith(first)
    )


@pytest.mark.skipif(which("zstd") is None, reason="needs the program zstd")
def test_long_windows(tmp_path: Path) -> None:
    made = subprocess.run(["zstd", "--long=28", "-c"], input=lines(ROWS), capture_output=True, check=True).stdout
    (tmp_path / "a.jsonl.zst").write_bytes(made)
    assert made[5] >> 3 == 18, "a window of 2^28 bytes"
    assert ingest(tmp_path, tmp_path / "out")["kept"] == len(ROWS)


def test_a_window_beyond_the_memory_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    assert compressed.checked(lambda: io.BytesIO(frame), "zstd", len(frame)) == compressed.Soundness()
    monkeypatch.setattr(compressed.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 30}))
    with pytest.raises(MemoryError):
        compressed.checked(lambda: io.BytesIO(frame), "zstd", len(frame))


def zipped(*members: tuple[str, bytes], harm: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, raw in members:
            archive.writestr(name, raw)
    return sink.getvalue().replace(harm, harm.swapcase(), 1) if harm else sink.getvalue()


LOST = {
    "a column of another name": ("a.parquet", parquet(content=ROWS), 0),
    "a column of another type": ("a.parquet", parquet(text=list(range(9))), 0),
    "a table without rows": ("a.parquet", parquet(text=pa.array([], pa.string())), 0),
    "Parquet that is cut": ("a.parquet", parquet(text=ROWS)[:-20], 0),
    "CSV without the column": ("a.csv", b"content\n" + "\n".join(ROWS).encode(), 0),
    "an empty file": ("a.jsonl", b"", 0),
    "an empty gzip file": ("a.jsonl.gz", b"", 0),
    "an object of lists": ("a.json", b'{"version": 1, "data": [{"text": "one"}]}', 0),
    "lines that are cut": ("a.jsonl", lines(ROWS)[:-10], len(ROWS) - 1),
    "an array that is cut": ("a.json", json.dumps([{"text": row} for row in ROWS])[:-1].encode(), len(ROWS)),
    "an array that is damaged": ("a.json", b'[{"text": "one"}, {"text": two}, {"text": "three"}]', 1),
    "a bad checksum in a zip": (
        "a.zip",
        zipped(("a.jsonl", lines(ROWS)), ("b.txt", b"Another one."), harm=b"Row 7"),
        1,
    ),
    "a zip that is cut": ("a.zip", zipped(("a.jsonl", lines(ROWS)))[:-30], 0),
    "an archive of nothing": ("a.zip", zipped(("a.doc", b"x")), 0),
    "no dump": ("a.xml", b"<rss></rss>", 0),
    "lines of another field": ("a.jsonl", lines(ROWS).replace(b'"text"', b'"content"'), 0),
    "an array by the name of lines": ("a.jsonl", json.dumps([{"text": row} for row in ROWS]).encode(), 0),
    "one line of everything": ("a.jsonl", lines(ROWS).replace(b"\n", b""), 0),
    "lines of UTF-16": ("a.jsonl", lines(ROWS).decode().encode("utf-16"), 0),
    "CSV of UTF-16": ("a.csv", "\n".join(["text", *ROWS]).encode("utf-16"), 0),
    "lines that are packed twice": ("a.jsonl.gz", gzip.compress(gzip.compress(lines(ROWS))), 0),
    "a page that says that nothing was found": ("a.jsonl", b"<html>\n404\n</html>\n", 0),
    "CSV of more fields than names": ("a.csv", b"text\n" + b"one, two\n" * 9, 0),
    "CSV that is cut within quotes": ("a.csv", b"text\n" + b'"one, two"\n' * 9 + b'"one, tw', 1),
    "Parquet of nothing": ("a.parquet", parquet(text=pa.array([None] * 9, pa.string())), 0),
    "a text over the limit": ("a.txt", b"word " * 3000, 0),
}


@pytest.mark.parametrize("what", LOST)
def test_a_file_that_is_lost_is_counted_as_a_file(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 12_000)
    name, raw, kept = LOST[what]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sound.jsonl").write_bytes(lines([f"{row} Sound." for row in ROWS]))
    (tmp_path / "in" / name).write_bytes(raw)
    with pytest.raises(UserError, match="1 of 2 files are lost"):
        ingest(tmp_path / "in", tmp_path / "out")
    summary = ingest(tmp_path / "in", tmp_path / "again", lost=1)
    check(tmp_path / "again", summary)
    assert (summary["kept"], summary["lost_files"]) == (len(ROWS) + kept, 1), rejected(tmp_path / "again")
    assert summary["first_lost"][0].startswith(f"in/{name}")


def test_files_that_are_lost_are_named_with_their_rows_and_encoding(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(lines(ROWS).decode().encode("utf-16"))
    (tmp_path / "in" / "b.jsonl").write_bytes(lines(ROWS).replace(b'"text"', b'"content"'))
    (tmp_path / "in" / "c.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "in" / "d.jsonl").write_bytes(b"not JSON\n" + lines(["A sound row after a bad one."]))
    data = TextData(kind="text", sources=[SourceConfig(path=str(tmp_path / "in"))], max_lost_files=2)
    data = data.model_copy(update={"clean": data.clean.model_copy(update={"max_rejects": 1000})})
    summary = module.ingest(kind_of("text"), data, 0, tmp_path / "out", tmp_path / "d")
    assert (summary["kept"], summary["rejected"], summary["lost_files"]) == (201, 202, 2)
    assert summary["first_lost"] == [
        "in/a.jsonl: not UTF-8: byte 0xff at offset 0; set the encoding of its source: utf-16",
        "in/b.jsonl: none of 200 rows can be used: no field 'text'; found 'content'",
    ]


@pytest.mark.parametrize("last", ["content", "text"])
def test_a_file_that_is_read_in_stretches_is_lost_if_none_of_them_gives_a_row(tmp_path: Path, last: str) -> None:
    body = [f'{{"content": "{"x" * 100_000}"}}'] * 199 + [f'{{"{last}": "The last row."}}', ""]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(body))
    (tmp_path / "in" / "b.jsonl").write_bytes(lines(ROWS))
    data = TextData(kind="text", sources=[SourceConfig(path=str(tmp_path / "in"))], max_lost_files=1)
    data = data.model_copy(update={"clean": data.clean.model_copy(update={"max_rejects": 199 * (last == "text")})})
    summary = module.ingest(kind_of("text"), data, 0, tmp_path / "out", tmp_path / "d")
    lost = ["in/a.jsonl: none of 200 rows can be used: no field 'text'; found 'content'"] * (last == "content")
    assert (summary["first_lost"], summary["kept"]) == (lost, 200 + (last == "text"))


def test_a_text_whose_sentences_take_too_long_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(["“" * 100_000, *ROWS]))
    data = TextData(kind="text", sources=[SourceConfig(path=str(tmp_path / "a.jsonl"))])
    clean = data.clean.model_copy(update={"max_seconds": 1, "language": "de", "max_rejects": 1})
    summary = module.ingest(
        kind_of("text"), data.model_copy(update={"clean": clean}), 0, tmp_path / "out", tmp_path / "d"
    )
    (reject,) = rejected(tmp_path / "out")
    assert reject["reason"] == "splitting into sentences takes more than 1 seconds of processing"
    assert (summary["kept"], reject["position"]) == (len(ROWS), 1)


def test_a_text_whose_personal_data_take_too_long_to_mask_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(["1/" * 200_000, *ROWS]))
    data = TextData(kind="text", sources=[SourceConfig(path=str(tmp_path / "a.jsonl"))])
    rules = RulesConfig(personal_data=PersonalDataConfig())
    clean = data.clean.model_copy(update={"max_seconds": 1, "rules": rules, "max_rejects": 1})
    summary = module.ingest(
        kind_of("text"), data.model_copy(update={"clean": clean}), 0, tmp_path / "out", tmp_path / "d"
    )
    (reject,) = rejected(tmp_path / "out")
    assert reject["reason"] == "masking personal data takes more than 1 seconds of processing"
    assert (summary["kept"], reject["position"]) == (len(ROWS), 1)


def test_bytes_that_are_not_utf8_cost_their_own_row(tmp_path: Path) -> None:
    rows = [row.encode() for row in ROWS]
    bad = [*rows[:2], b"caf\xe9", *rows[3:]]
    for name, column in (("plain", not_utf8(*bad)), ("dictionary", not_utf8(*bad).dictionary_encode())):
        (tmp_path / f"{name}.parquet").write_bytes(parquet(text=column, title=not_utf8(b"\xff", *rows[1:])))
    for path in sorted(tmp_path.glob("*.parquet")):
        summary = ingest(path, tmp_path / path.stem)
        assert (summary["kept"], summary["rejected"], summary["lost_files"]) == (len(ROWS) - 1, 1, 0)
        (reject,) = rejected(tmp_path / path.stem)
        assert (reject["position"], reject["reason"]) == (3, "not UTF-8")
    raw = b'{"text": "one", "title": "caf\xe9"}\n{"text": "caf\xe9"}\n{"text": "three"}\n'
    (tmp_path / "a.jsonl").write_bytes(raw)
    data = TextData(kind="text", sources=[SourceConfig(path=str(tmp_path / "a.jsonl"))])
    data = data.model_copy(update={"clean": data.clean.model_copy(update={"max_rejects": 1})})
    summary = module.ingest(kind_of("text"), data, 0, tmp_path / "lines", tmp_path / "d")
    assert sorted(texts(tmp_path / "lines")) == ["one", "three"]
    assert "not UTF-8: byte 0xe9" in rejected(tmp_path / "lines")[0]["reason"]


def test_a_damaged_column_that_nobody_asked_for_costs_nothing(tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = pa.table({"text": ROWS, "title": [f"Title {number}" for number in range(len(ROWS))]})
    pq.write_table(table, sink, compression="gzip", use_dictionary=False)
    raw = bytearray(sink.getvalue())
    place = pq.read_metadata(io.BytesIO(sink.getvalue())).row_group(0).column(1).data_page_offset
    raw[place + 40 : place + 80] = bytes(40)
    (tmp_path / "a.parquet").write_bytes(bytes(raw))
    assert ingest(tmp_path / "a.parquet", tmp_path / "out")["kept"] == len(ROWS)


# -- other kinds ------------------------------------------------------------------------------------------------------


def table_of(path: Path, out: Path, lost: int) -> dict[str, Any]:
    data = TableData(kind="table", sources=[SourceConfig(path=str(path))], max_lost_files=lost)
    return module.ingest(kind_of("table"), data, 0, out, out.with_name(f"{out.name}-downloads"))


def test_tables(tmp_path: Path) -> None:
    body = b"a,b\n" + b"".join(b"%d,x%d\n" % (number, number) for number in range(100))
    path = tmp_path / "in"
    path.mkdir()
    (path / "cut.csv.gz").write_bytes(gzip.compress(body)[:-6])
    (path / "tape.csv.gz").write_bytes(gzip.compress(body.replace(b"x", b"y")) + bytes(512))
    (path / "text.parquet").write_bytes(parquet(a=[1, 2, 3], b=not_utf8(b"u", b"\xff", b"w")))
    with pytest.raises(UserError, match=r"1 of 3 files are lost.*cut\.csv\.gz row 102: damaged gzip file: it is cut"):
        table_of(path, tmp_path / "out", 0)
    summary = table_of(path, tmp_path / "again", 1)
    assert (summary["kept"], summary["rejected"], summary["lost_files"]) == (202, 2, 1)
    assert {reject["reason"] for reject in rejected(tmp_path / "again")} == {
        "damaged gzip file: it is cut short",
        "not UTF-8",
    }


def test_images_without_their_labels(tmp_path: Path) -> None:
    pixels = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4)
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx(pixels))
    (tmp_path / "b-images-idx3-ubyte").write_bytes(idx(255 - pixels))
    (tmp_path / "b-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\0\0")
    data = ImagesData(kind="images", sources=[SourceConfig(path=str(tmp_path))], max_lost_files=0)
    with pytest.raises(UserError, match=r"1 of 3 files are lost.*b-images-idx3-ubyte.*2 labels for 3 images"):
        module.ingest(kind_of("images"), data, 0, tmp_path / "out", tmp_path / "d")
