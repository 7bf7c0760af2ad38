"""Whatever bytes lie in a source: a row is kept or rejected, and sound rows survive beside bad ones."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.errors import UserError
from data_prep.sources import compressed, records
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest import plan as plan_module
from data_prep.text.ingest.plan import plan
from tests.data_prep.bad_input import fuzz
from tests.data_prep.bad_input.checks import SOUND, TWO, UMLAUT, check, line, rejected, run, texts
from tests.data_prep.test_ingest import prose
from tests.data_prep.text.formats.test_formats import COMPRESS, FILES


def table(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def evil_zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("../../etc/out.txt", "x")
        archive.writestr("good.txt", "A good member.")
    return sink.getvalue()


def evil_tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name in ("/etc/passwd.txt", "good.txt"):
            info = tarfile.TarInfo(name)
            info.size = 14
            archive.addfile(info, io.BytesIO(b"A good member."))
    return sink.getvalue()


BAD: dict[str, tuple[str, bytes, int, int]] = {  # file, bytes, rows that stay, rows that are rejected
    "latin-1 text": ("a.txt", "Grüße".encode("latin-1"), 0, 1),
    "cp1252 text": ("a.txt", UMLAUT.encode("cp1252"), 0, 1),
    "UTF-16 text": ("a.txt", UMLAUT.encode("utf-16"), 0, 1),
    "UTF-16 big-endian text": ("a.txt", b"\xfe\xff" + UMLAUT.encode("utf-16-be"), 0, 1),
    "UTF-8 with a mark": ("a.txt", b"\xef\xbb\xbf" + UMLAUT.encode(), 1, 0),
    "a surrogate as bytes": ("a.txt", b"before \xed\xa0\x80 after", 0, 1),
    "overlong form": ("a.txt", b"a \xc0\xaf b", 0, 1),
    "NULs": ("a.txt", b"Some\0 words\0\0.", 1, 0),
    "NULs alone": ("a.txt", b"\0" * 1000, 0, 1),
    "controls alone": ("a.txt", bytes(range(1, 32)) * 3, 0, 1),
    "controls in a text": ("a.txt", b"\x1b[31mred\x1b[0m \x07bell \x7f\xc2\x85 end", 1, 0),
    "one latin-1 line": ("a.jsonl", line("One.").encode() + line("Grüße").encode("latin-1") + line("3").encode(), 2, 1),
    "UTF-16 lines": ("a.jsonl", TWO.encode("utf-16"), 0, 1),
    "NUL in a line": ("a.jsonl", b'{"text": "a\0b"}\n' + TWO.encode(), 2, 1),
    "NUL escaped": ("a.jsonl", b'{"text": "a\\u0000b"}\n' + TWO.encode(), 3, 0),
    "half a surrogate": ("a.jsonl", b'{"text": "x \\ud800 y"}\n' + TWO.encode(), 2, 1),
    "half a surrogate as a key": ("a.jsonl", b'{"text": "x", "\\udc00": 1}\n' + TWO.encode(), 3, 0),
    "half a surrogate beside": ("a.jsonl", b'{"text": "x", "k": "\\udc00"}\n' + TWO.encode(), 3, 0),
    "latin-1 beside": ("a.jsonl", '{"text": "x", "ö": "ü"}\n'.encode("latin-1") + TWO.encode(), 3, 0),
    "a whole pair": ("a.jsonl", b'{"text": "x \\ud83d\\ude00 y"}\n' + TWO.encode(), 3, 0),
    "no object": ("a.jsonl", b"[]\n1\nnull\nNaN\n" + TWO.encode(), 2, 4),
    "nested for ever": ("a.jsonl", b"[" * 100_000 + b"\n" + TWO.encode(), 2, 1),
    "a number of 5,000 digits": ("a.jsonl", b'{"text": "x", "n": ' + b"1" * 5000 + b"}\n" + TWO.encode(), 3, 0),
    "infinite numbers": ("a.jsonl", b'{"text": "infinite", "n": 1e999, "m": NaN}\n' + TWO.encode(), 3, 0),
    "other line ends": ("a.jsonl", TWO.replace("\n", "\r\n").encode(), 2, 0),
    "cut in a line": ("a.jsonl", TWO.encode()[:-5], 1, 1),
    "a long line": ("a.jsonl", line("x" * 5000).encode() + TWO.encode(), 2, 1),
    "a long text": ("a.txt", b"x" * 5000, 0, 1),
    "a latin-1 table": ("a.csv", "text,n\nGrüße,1\ngood,2\n".encode("latin-1"), 1, 1),
    "a UTF-16 table": ("a.csv", "text,n\nGrüße,1\n".encode("utf-16"), 0, 1),
    "an open quote": ("a.csv", b'text\ngood\n"never closed\nmore\n', 1, 2),
    "NUL in a table": ("a.csv", b"text\na\0b\nbetter\n", 2, 0),
    "text of another name": ("a.parquet", table(words=["a", "b"]), 0, 1),
    "text that is numbers": ("a.parquet", table(text=[1, 2, 3]), 0, 1),
    "text that is bytes": ("a.parquet", table(text=[b"a", b"b"]), 0, 1),
    "text that is lists": ("a.parquet", table(text=[["a"], ["b"]]), 0, 1),
    "rows without text": ("a.parquet", table(text=["first row", None, "", "fourth row"]), 2, 2),
    "a table without rows": ("a.parquet", table(text=pa.array([], pa.string())), 0, 1),
    "Parquet that is cut": ("a.parquet", FILES["a.parquet"][:-20], 0, 1),
    "Arrow that is cut": ("a.arrow", FILES["file.arrow"][:-20], 0, 1),
    "an archive with a way out": ("a.zip", evil_zip(), 1, 1),
    "a tar with a way out": ("a.tar", evil_tar(), 1, 1),
    "a tar that is cut": ("a.tar", evil_tar()[:700], 0, 2),
    "a zip that is cut": ("a.zip", evil_zip()[:-30], 0, 1),
    **{f"empty {name}": (name, b"", 0, 1) for name in ("a.txt", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow")},
    **{f"empty {name}": (name, b"", 0, 1) for name in ("a.zip", "a.tar", "a.txt.gz", "a.jsonl.xz", "a.csv.zst")},
    **{f"truncated {s}": (f"a.jsonl{s}", COMPRESS[s](TWO.encode())[:-6], 2, 1) for s in (".gz", ".bz2", ".xz")},
    **{f"a bomb in {s}": (f"a.txt{s}", COMPRESS[s](bytes(4 << 20)), 0, 1) for s in COMPRESS if s},
}


@pytest.mark.parametrize("what", BAD)
def test_sound_rows_survive_beside_bad_ones(
    folder: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 4000 if "a long " in what else records.MAX_BYTES)
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(compressed, "MAX_EXPANSION", 50)
    name, raw, kept, bad = BAD[what]
    (folder / name).write_bytes(raw)
    summary = run(folder, out=tmp_path / "out", split=0.1)
    check(tmp_path / "out", summary)
    assert set(SOUND) <= set(texts(tmp_path / "out"))
    assert (summary["kept"], summary["rejected"]) == (len(SOUND) + kept, bad), rejected(tmp_path / "out")
    assert all(reject["source"].startswith(f"texts/{name}") for reject in rejected(tmp_path / "out"))


@pytest.mark.parametrize("what", ["latin-1 text", "no object", "text that is numbers", "truncated .gz", "empty a.zip"])
def test_too_many_bad_rows_are_an_error_that_says_why(folder: Path, tmp_path: Path, what: str) -> None:
    name, raw, _, bad = BAD[what]
    (folder / name).write_bytes(raw)
    run(folder, out=tmp_path / "enough", max_rejects=bad)
    first = rejected(tmp_path / "enough")[0]
    with pytest.raises(UserError, match=r"rows cannot be used, more than max_rejects") as caught:
        run(folder, out=tmp_path / "out", max_rejects=bad - 1)
    assert first["source"] in str(caught.value) and first["reason"] in str(caught.value)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_every_position_is_that_of_the_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 300)
    draw, lines, bad = random.Random(0), [], []
    for number in range(1, 200):
        if draw.random() < 0.2:
            bad.append(number)
        lines.append(b"\xff\n" if number in bad else line(prose(number)).encode())
    (folder / "a.jsonl").write_bytes(b"".join(lines))
    summary = run(folder, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert [reject["position"] for reject in rejected(tmp_path / "out")] == bad
    assert len(plan([SourceConfig(path=str(folder))], CleanConfig(), tmp_path / "d")) > 10


@pytest.mark.slow
def test_a_line_of_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(line("Before.").encode() + b'{"text": "')
        for _ in range(1024):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + line("After.").encode())
    code = f"""
import resource
from pathlib import Path
from tests.data_prep.bad_input.checks import run
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
summary = run(Path({str(path)!r}), out=Path({str(tmp_path / "out")!r}))
print(summary["kept"], summary["rejected"], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path.unlink()
    kept, bad, mebibytes = map(int, done.stdout.split())
    assert (kept, bad) == (2, 1) and mebibytes < 400


def test_names_that_are_taken_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": 1, "text": prose(n)}) + "\n" for n in range(3)))
    with pytest.raises(UserError, match="is taken by a document of"):
        run(path, out=tmp_path / "out", identity="id", max_rejects=0)


# -- archives and columns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_members_of_a_tar_may_have_names_in_latin_1(folder: Path, tmp_path: Path, suffix: str) -> None:
    with tarfile.open(folder / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(f"caf\udce9{suffix}")
        info.size = len(TWO)
        archive.addfile(info, io.BytesIO(TWO.encode()))
    summary = run(folder, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert set(SOUND) <= set(texts(tmp_path / "out"))


def zip_with(at: bytes, offset: int, value: int) -> bytes:
    """Three members, one byte of which differs: `offset` behind the last place of `at`."""
    sink = io.BytesIO()
    draw = random.Random(0)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.txt", "b.txt", "c.txt"):
            archive.writestr(name, " ".join(str(draw.random()) for _ in range(100)))
    raw = bytearray(sink.getvalue())
    raw[(raw.rfind(at) if at else 0) + offset] = value
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        pytest.param(zip_with(b"PK\x01\x02", 6, 200), 0, id="of an unknown version"),
        pytest.param(zip_with(b"PK\x01\x02", 46, 0), 2, id="a member without a name"),
        pytest.param(zip_with(b"", 35, 0xFF), 2, id="one member's data"),
    ],
)
def test_damage_in_a_zip_costs_little(folder: Path, tmp_path: Path, raw: bytes, kept: int) -> None:
    (folder / "a.zip").write_bytes(raw)
    summary = run(folder, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert summary["kept"] >= len(SOUND) + kept


@pytest.mark.parametrize("name", ["file.arrow", "stream.arrow"])
def test_columns_may_have_names_that_are_not_utf8(name: str) -> None:
    assert fuzz.check_rows(name, FILES[name].replace(b"year", b"ye\xffr"))
