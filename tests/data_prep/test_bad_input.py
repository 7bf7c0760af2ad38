"""Whatever lies in a source, and whatever happens meanwhile: a row is kept or rejected, and a rerun mends the rest."""

from __future__ import annotations

import errno
import gzip
import io
import json
import lzma
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import compression, ingest_unit, readers_rows, sources, units
from data_prep import ingest as module
from data_prep.clean import CleanConfig
from data_prep.compose import ComposeConfig, compose
from data_prep.corpus import SPLITS, Corpus, SplitConfig
from data_prep.errors import UserError
from data_prep.ingest import ingest, plan
from data_prep.rows import ragged
from data_prep.shards import Shards, ShardWriter
from data_prep.sources import SourceConfig
from data_prep.tokenizers import TokenizerConfig, load, specials, train
from data_prep.tokens import TokenCorpus, tokenise
from data_prep.workers import HERE, Workers
from tests.data_prep import fuzz
from tests.data_prep.test_ingest import contents, prose
from tests.data_prep.test_readers import COMPRESS, FILES

SOUND = ["A sound text that must stay, whatever lies beside it.", "Another sound one.", "And a third."]


def run(
    *paths: Path,
    out: Path,
    downloads: Path | None = None,
    split: float = 0.0,
    workers: Workers = HERE,
    identity: str | None = None,
    **clean: Any,
) -> dict[str, Any]:
    found = [SourceConfig(path=str(path), id_field=identity) for path in paths]
    config = CleanConfig(**{"max_rejects": 1.0, **clean})
    held_out = SplitConfig(validation=split, test=split)
    return ingest(found, config, held_out, 0, out, downloads or out.with_name(f"{out.name}-downloads"), workers=workers)


def texts(folder: Path) -> list[str]:
    return [" ".join(d.sentences) for split in SPLITS for d in Corpus(folder, split).documents]


def rejected(folder: Path) -> list[dict[str, Any]]:
    return pa.ipc.open_file(str(folder / "rejects.arrow")).read_all().to_pylist()


def check(folder: Path, summary: dict[str, Any]) -> None:
    """What is promised of every corpus."""
    kept, bad = texts(folder), rejected(folder)
    assert summary["rows"] == summary["kept"] + summary["rejected"]
    assert (len(kept), len(bad)) == (summary["kept"], summary["rejected"])
    for reject in bad:
        assert reject["source"] and reject["position"] >= 1 and reject["reason"], reject
    for text in kept:
        assert text.strip()
        odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"}
        assert not odd, odd


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three sound documents, in which each test puts something bad."""
    made = tmp_path / "texts"
    made.mkdir()
    (made / "0.txt").write_text(SOUND[0])
    (made / "z.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SOUND[1:]))
    return made


# -- bad bytes --------------------------------------------------------------------------------------------------------

UMLAUT = "Grüße und Küsse – „schön“ für 5 €."


def line(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False) + "\n"


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


TWO = line("One more.") + line("Two more.")
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
    "UTF-16 lines": ("a.jsonl", TWO.encode("utf-16"), 0, 3),
    "NUL in a line": ("a.jsonl", b'{"text": "a\0b"}\n' + TWO.encode(), 2, 1),
    "NUL escaped": ("a.jsonl", b'{"text": "a\\u0000b"}\n' + TWO.encode(), 3, 0),
    "half a surrogate": ("a.jsonl", b'{"text": "x \\ud800 y"}\n' + TWO.encode(), 2, 1),
    "half a surrogate as a key": ("a.jsonl", b'{"text": "x", "\\udc00": 1}\n' + TWO.encode(), 2, 1),
    "half a surrogate beside": ("a.jsonl", b'{"text": "x", "k": "\\udc00"}\n' + TWO.encode(), 2, 1),
    "a whole pair": ("a.jsonl", b'{"text": "x \\ud83d\\ude00 y"}\n' + TWO.encode(), 3, 0),
    "no object": ("a.jsonl", b"[]\n1\nnull\nNaN\n" + TWO.encode(), 2, 4),
    "nested for ever": ("a.jsonl", b"[" * 100_000 + b"\n" + TWO.encode(), 2, 1),
    "a number of 5,000 digits": ("a.jsonl", b'{"text": "x", "n": ' + b"1" * 5000 + b"}\n" + TWO.encode(), 2, 1),
    "infinite numbers": ("a.jsonl", b'{"text": "infinite", "n": 1e999, "m": NaN}\n' + TWO.encode(), 3, 0),
    "other line ends": ("a.jsonl", TWO.replace("\n", "\r\n").encode(), 2, 0),
    "cut in a line": ("a.jsonl", TWO.encode()[:-5], 1, 1),
    "a long line": ("a.jsonl", line("x" * 5000).encode() + TWO.encode(), 2, 1),
    "a long text": ("a.txt", b"x" * 5000, 0, 1),
    "a latin-1 table": ("a.csv", "text,n\nGrüße,1\ngood,2\n".encode("latin-1"), 1, 1),
    "a UTF-16 table": ("a.csv", "text,n\nGrüße,1\n".encode("utf-16"), 0, 1),
    "an open quote": ("a.csv", b'text\ngood\n"never closed\nmore\n', 1, 1),
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
    "a tar that is cut": ("a.tar", evil_tar()[:700], 0, 1),
    "a zip that is cut": ("a.zip", evil_zip()[:-30], 0, 1),
    **{f"empty {name}": (name, b"", 0, 1) for name in ("a.txt", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow")},
    **{f"empty {name}": (name, b"", 0, 1) for name in ("a.zip", "a.tar", "a.txt.gz", "a.jsonl.xz", "a.csv.zst")},
    **{f"truncated {s}": (f"a.jsonl{s}", COMPRESS[s](TWO.encode() * 9)[:-6], 0, 1) for s in COMPRESS if s},
    **{f"a bomb in {s}": (f"a.txt{s}", COMPRESS[s](bytes(4 << 20)), 0, 1) for s in COMPRESS if s},
}


@pytest.mark.parametrize("what", BAD)
def test_sound_rows_survive_beside_bad_ones(
    folder: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_rows, "MAX_BYTES", 4000 if "a long " in what else readers_rows.MAX_BYTES)
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(compression, "MAX_EXPANSION", 50)
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
    monkeypatch.setattr(module, "UNIT_BYTES", 300)
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
from tests.data_prep.test_bad_input import *
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
summary = run(Path({str(path)!r}), out=Path({str(tmp_path / "out")!r}))
print(summary["kept"], summary["rejected"], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path.unlink()
    kept, bad, mebibytes = map(int, done.stdout.split())
    assert (kept, bad) == (2, 1) and mebibytes < 400


LETTERS = st.one_of(
    st.characters(),  # any code point, surrogates included
    st.sampled_from("\0\x07\x1b\x7f\x85\u2028\ufeff\u200d\u202e\u0301\u0651\ud83d\ude00 \n\r\t"),
)
WRITTEN = st.lists(st.tuples(st.text(LETTERS, max_size=12), st.sampled_from(["text", "words"])), max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=WRITTEN, escaped=st.booleans())
def test_any_characters(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], escaped: bool) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = [json.dumps({key: text}, ensure_ascii=escaped) for text, key in rows]
    (folder / "a.jsonl").write_bytes("\n".join([*lines, '{"text": "sound"}']).encode("utf-8", "surrogatepass"))
    summary = run(folder / "a.jsonl", out=folder / "out")
    check(folder / "out", summary)
    assert summary["rows"] == len(rows) + 1 and {"sound"} <= set(texts(folder / "out"))
    for text, key in rows:
        plain = unicodedata.normalize("NFC", text)
        if key == "text" and text.isprintable() and text.strip() and "  " not in text:
            assert plain.strip() in texts(folder / "out")


# -- odd and valid ----------------------------------------------------------------------------------------------------

ODD = {
    "right to left": "שלום עולם. זה משפט שני! مرحبا بالعالم، كيف حالك؟",
    "vowel signs": "بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ. בְּרֵאשִׁית בָּרָא אֱלֹהִים.",
    "both ways": "The word \u2067שלום\u2069 stands here. \u200fHere\u200e too.",
    "marks apart": "Cafe\u0301 au lait, A\u030angstro\u0308m. Vie\u0323\u0302t Nam.",
    "many marks": "Z\u0351\u036b\u0343a\u0329\u0321l\u0328\u0334g\u0321o\u0322 text. It goes on.",
    "emoji": "A family 👨‍👩‍👧‍👦 waves 👋🏽. A flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿 and 🇫🇷 too. ❤️‍🔥",
    "Chinese": "这是第一句话。这是第二句，比较长一点！真的吗？",
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたか分からぬ。",
    "beyond the first plane": "𠜎𠜱𠝹 are rare. 𝒜𝓁𝓁 𝔬𝔣 this. 𐍈 is Gothic.",
    "joiners": "می\u200cخواهم بروم. क्\u200dष is shaped.",
    "Thai": "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง",
    "Korean, decomposed": unicodedata.normalize("NFD", "안녕하세요. 세계입니다."),
    "private and unassigned": "\ue000 private, \U0010fffd last, \u0378 unassigned.",
}


def test_odd_text_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(text) for text in ODD.values()), encoding="utf-8")
    summary = run(path, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    found = ["".join(text.split()) for text in texts(tmp_path / "out")]
    assert found == ["".join(unicodedata.normalize("NFC", text).split()) for text in ODD.values()]
    run(path, out=tmp_path / "raw", normalisation="none")
    assert ["".join(text.split()) for text in texts(tmp_path / "raw")] == ["".join(t.split()) for t in ODD.values()]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
@pytest.mark.parametrize("rows_of", ["packed", "nsp", "sop"])
def test_odd_text_goes_all_the_way_to_shards(tmp_path: Path, kind: Any, rows_of: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(line(f"{text} {number}.") for text in ODD.values() for number in range(3)), encoding="utf-8"
    )
    run(path, out=tmp_path / "out")
    corpus = Corpus(tmp_path / "out")
    train(TokenizerConfig(kind=kind, vocabulary=600), corpus.sentences(), tmp_path / "tokenizer")
    tokenizer, special = load(tmp_path / "tokenizer"), specials(tmp_path / "tokenizer")
    tokens = tokenise(corpus, tokenizer)
    if kind != "wordpiece":  # which has no piece for a word with a character it does not know
        pieces = [tokens.tokens[a:b].tolist() for a, b in pairwise(tokens.sentence_offsets)]
        assert [tokenizer.decode(ids).strip() for ids in pieces] == [s.strip() for s in corpus.sentences()]
    tokens.save(tmp_path / "tokens")
    again = TokenCorpus.open(tmp_path / "tokens")
    assert np.array_equal(again.tokens, tokens.tokens) and np.array_equal(again.word_start, tokens.word_start)
    config = ComposeConfig(kind=rows_of, length=24)
    rows = compose(again, config, special, 0, "odd", 0, range(len(again)))
    writer = ShardWriter(tmp_path / "shards", 50, 16)
    writer.write(rows)
    writer.close()
    shards = Shards(tmp_path / "shards")
    found = shards.read(np.arange(len(shards)))
    assert len(shards) and shards.verify() == [] and set(found) == set(rows)
    assert np.array_equal(ragged(found, "tokens").values, ragged(rows, "tokens").values)
    assert ragged(found, "tokens").values.max() < special.vocabulary


# -- odd files --------------------------------------------------------------------------------------------------------


def test_names_that_repeat_keep_one_document_each(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": n % 3, "text": prose(n)}) + "\n" for n in range(9)))
    summary = run(path, out=tmp_path / "out", identity="id")
    check(tmp_path / "out", summary)
    assert (summary["kept"], summary["rejected"]) == (3, 6)
    assert all("is taken by a document of" in reject["reason"] for reject in rejected(tmp_path / "out"))


def test_folders_of_one_name_keep_one_document_each(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "texts").mkdir(parents=True)
        (tmp_path / parent / "texts" / "a.txt").write_text(f"This lies in {parent}.")
    (tmp_path / "two" / "texts" / "b.txt").write_text("This lies in one.")
    summary = run(tmp_path / "one" / "texts", tmp_path / "two" / "texts", out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert (summary["rows"], summary["kept"]) == (3, 1)


@pytest.mark.timeout(60)
def test_loops_pipes_and_sockets_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "one.txt").symlink_to(folder / "other.txt")
    (folder / "other.txt").symlink_to(folder / "one.txt")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    (folder / "to-pipe.txt").symlink_to(folder / "pipe.txt")
    (folder / "endless.txt").symlink_to("/dev/zero")
    (folder / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(folder / "plug.txt"))
        for path in (folder, folder / "**" / "*.*"):
            summary = run(path, out=tmp_path / "out", downloads=tmp_path / "downloads")
            check(tmp_path / "out", summary)
            assert sorted(texts(tmp_path / "out")) == sorted(SOUND) and summary["rejected"] == 0
            shutil.rmtree(tmp_path / "out")
        for name in ("pipe.txt", "plug.txt", "to-pipe.txt", "endless.txt", "self.txt", "gone.txt"):
            with pytest.raises(UserError, match=r"neither a file nor a folder|does not exist"):
                run(folder / name, out=tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "0.txt").chmod(0)
    with pytest.raises(UserError, match=r"0\.txt cannot be read \(Permission denied\)"):
        run(folder, out=tmp_path / "out")


def test_names_that_are_not_unicode(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate((b"\xff.txt", b"\xe9t\xe9.jsonl", "日本.txt".encode(), b"new\nline.txt", b" .txt")):
        (folder / os.fsdecode(name)).write_bytes(line(prose(number)).encode())
    summary = run(folder, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert summary["kept"] == len(SOUND) + 5


# -- while it is read -------------------------------------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write(line("Late."))


def replace(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(path.with_suffix(".old").read_bytes().replace(b"a", b"e"))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HAPPENS: dict[str, Callable[[Path], object]] = {
    "grows": append,
    "is emptied": lambda path: path.write_bytes(b""),
    "is replaced": replace,
    "vanishes": Path.unlink,
    "becomes a folder": to_folder,
}


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("when", [0, 1, 30])
@pytest.mark.parametrize("what", HAPPENS)
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, what: str, when: int, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(prose(number)) for number in range(60)))
    if cut:
        monkeypatch.setattr(module, "UNIT_BYTES", 3000)
    count = 0

    def hooked(real: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def reader(*settings: Any) -> Iterator[Any]:
            nonlocal count
            for row in real(*settings):
                if count == when:
                    HAPPENS[what](path)
                count += 1
                yield row

        return reader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "read_opened", hooked(sources.read_opened))
        patch.setattr(sources, "read_stretch", hooked(sources.read_stretch))
        with pytest.raises(UserError, match=r"a\.jsonl (changed|went away) while it was read; run again"):
            run(path, out=tmp_path / "out", downloads=tmp_path / "downloads")
    assert not list((tmp_path / "downloads" / "units").glob(".*"))
    if path.is_dir():
        path.rmdir()
    path.write_text("".join(line(prose(number)) for number in range(40, 70)))
    run(path, out=tmp_path / "again", downloads=tmp_path / "downloads", split=0.1)
    run(path, out=tmp_path / "fresh", split=0.1)
    assert contents(tmp_path / "again") == contents(tmp_path / "fresh")


# -- changed bytes ----------------------------------------------------------------------------------------------------

CHANGES = st.lists(
    st.builds(fuzz.Change, st.integers(0, 63), st.integers(0, 1 << 16), st.integers(0, 255), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)
FORMATS = st.sampled_from(sorted(fuzz.valid_files()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=FORMATS, other=FORMATS, inside=st.booleans(), changes=CHANGES)
def test_changed_files_are_read_to_their_end(name: str, other: str, inside: bool, changes: list[fuzz.Change]) -> None:
    fuzz.check_rows(name, fuzz.changed_file(name, changes, inside, other))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(name=FORMATS, other=FORMATS, inside=st.booleans(), changes=CHANGES)
def test_changed_files_spoil_no_corpus(
    tmp_path_factory: pytest.TempPathFactory, name: str, other: str, inside: bool, changes: list[fuzz.Change]
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    (folder / "texts").mkdir()
    (folder / "texts" / "0.txt").write_text(SOUND[0])
    (folder / "texts" / name).write_bytes(fuzz.changed_file(name, changes, inside, other))
    summary = run(folder / "texts", out=folder / "out")
    check(folder / "out", summary)
    assert SOUND[0] in texts(folder / "out")
    shutil.rmtree(folder)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kind=st.sampled_from(["shards", "shards", "tokens"]), file=st.integers(0, 99), changes=CHANGES)
def test_changed_shards_give_their_rows_or_none(
    tmp_path_factory: pytest.TempPathFactory, kind: str, file: int, changes: list[fuzz.Change]
) -> None:
    files = fuzz.valid_folders()[kind]
    name = sorted(files)[file % len(files)]
    data = fuzz.change(files[name], changes, files[sorted(files)[(file + 1) % len(files)]])
    place = tmp_path_factory.getbasetemp() / "changed-shards"
    if kind == "shards":
        fuzz.check_shards_apart(name, data, place)
    else:
        fuzz.check_folder(kind, name, data, place)


@pytest.mark.parametrize("kind", ["shards", "tokens"])
def test_a_file_that_is_gone_or_another_s_is_refused(tmp_path: Path, kind: str) -> None:
    files = fuzz.valid_folders()[kind]
    for name, raw in files.items():
        others = [other for key, other in files.items() if other != raw and not (name == "index.json" < key)]
        for content in (None, b"", b"{}", *others):
            assert fuzz.check_folder(kind, name, content, tmp_path / "folder"), name


@settings(max_examples=80, deadline=None, derandomize=True)
@given(which=st.integers(0, 1), changes=CHANGES)
def test_changed_recipes_are_recipes_or_refused(
    tmp_path_factory: pytest.TempPathFactory, which: int, changes: list[fuzz.Change]
) -> None:
    known = fuzz.valid_recipes()
    data = fuzz.change(known[which], changes, known[1 - which], fuzz.YAML_WORDS[10:15])
    fuzz.check_recipe(data, tmp_path_factory.getbasetemp())


# -- the cache of units -----------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is read in some ten units; copies within and across them, and bad rows."""
    monkeypatch.setattr(module, "UNIT_BYTES", 3000)
    monkeypatch.setattr(module, "SERIAL_BYTES", 0)
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [line(prose(number % 37)) for number in range(40)]
    (folder / "a.jsonl").write_text("".join([*lines, '{"text": 4}\n', "nonsense\n"]))
    for number in range(8):
        (folder / f"{number}.txt").write_text(prose(3 if number == 5 else 1000 + number))
    return folder


def units_of(downloads: Path) -> Path:
    return downloads / "units"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pick=st.integers(0, 999), changes=CHANGES, gone=st.booleans())
def test_a_changed_unit_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, pick: int, changes: list[fuzz.Change], gone: bool
) -> None:
    folder = tmp_path_factory.mktemp("units")
    (folder / "texts").mkdir()
    lines = [line(prose(number % 9)) for number in range(12)]
    (folder / "texts" / "a.jsonl").write_text("".join([*lines, "nonsense\n"]))
    (folder / "texts" / "b.txt").write_text(prose(50))
    places = {"downloads": folder / "downloads", "split": 0.2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "UNIT_BYTES", 1500)
        expected = run(folder / "texts", out=folder / "one", **places), contents(folder / "one")
        files = sorted(path for path in units_of(folder / "downloads").rglob("*") if path.is_file())
        path = files[pick % len(files)]
        path.unlink() if gone else path.write_bytes(fuzz.change(path.read_bytes(), changes, files[0].read_bytes()))
        assert (run(folder / "texts", out=folder / "two", **places), contents(folder / "two")) == expected
    shutil.rmtree(folder)


@pytest.mark.parametrize("junk", ["file", "empty folder", "folder with a folder"])
def test_junk_in_the_place_of_a_unit_is_replaced(tmp_path: Path, many: Path, junk: str) -> None:
    run(many, out=tmp_path / "one", downloads=tmp_path / "downloads")
    place = sorted(units_of(tmp_path / "downloads").iterdir())[0]
    shutil.rmtree(place)
    if junk == "file":
        place.write_text("junk")
    else:
        (place / "unit.json" if "with" in junk else place).mkdir(parents=True)
    run(many, out=tmp_path / "two", downloads=tmp_path / "downloads")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("seed", range(3))
def test_files_that_come_go_and_change_give_what_a_fresh_start_gives(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNIT_BYTES", 2500)
    seen: list[tuple[str, int]] = []
    rows = ingest_unit.rows
    monkeypatch.setattr(
        ingest_unit, "rows", lambda part, *rest: seen.append((part.name, part.start)) or rows(part, *rest)
    )
    draw, folder, downloads = random.Random(seed), tmp_path / "texts", tmp_path / "downloads"
    folder.mkdir()

    def content() -> bytes:
        made = "".join(line(prose(draw.randrange(60))) for _ in range(draw.randrange(1, 20)))
        return made.encode() + draw.choice([b"", b"nonsense\n", b'{"text": ""}\n'])

    def add() -> None:
        name = f"{draw.randrange(1000):03d}" + draw.choice([".jsonl", ".jsonl", ".txt", ".jsonl.gz", ".jsonl.xz"])
        pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)
        (folder / name).write_bytes(pack(content()))

    for _ in range(6):
        add()
    for step in range(8):
        known = sorted(folder.iterdir())
        one = draw.choice(known)
        match draw.randrange(6):
            case 0 | 1:
                add()
            case 2 if len(known) > 2:
                one.unlink()
            case 3:
                one.rename(one.with_name(f"{draw.randrange(1000):03d}{''.join(one.suffixes)}"))
            case 4 if one.suffix == ".jsonl":
                one.write_bytes(one.read_bytes() + line(prose(step)).encode())
            case _:
                os.utime(one)  # only looks new
        before = {path.name for path in units_of(downloads).glob("*")}
        planned = plan([SourceConfig(path=str(folder))], CleanConfig(max_rejects=1.0), tmp_path / "unused")
        seen.clear()
        summary = run(folder, out=tmp_path / f"{step}", downloads=downloads, split=0.2)
        check(tmp_path / f"{step}", summary)
        new = {unit.key: unit for unit in planned if unit.key not in before}.values()
        assert seen == [(part.name, part.start) for unit in new for part in unit.parts], "only what is new is read"
        assert run(folder, out=tmp_path / f"fresh-{step}", split=0.2) == summary
        assert contents(tmp_path / f"{step}") == contents(tmp_path / f"fresh-{step}")


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("where", ["rows", "close", "index", "rename", "folder", "corpus"])
def test_a_disk_that_fails_leaves_nothing_half_made(tmp_path: Path, many: Path, where: str, number: int) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    left = 4  # writes that go well

    def failing(real: Callable[..., Any], suffix: str = "") -> Callable[..., Any]:
        def write(*settings: Any, **more: Any) -> Any:
            nonlocal left
            if not suffix or suffix in str(settings[0]):
                left -= 1
                if left < 0:
                    raise OSError(number, os.strerror(number))
            return real(*settings, **more)

        return write

    with pytest.MonkeyPatch.context() as patch:
        if where == "rows":
            patch.setattr(ingest_unit.Writer, "_flush", failing(ingest_unit.Writer._flush))
        elif where == "close":
            patch.setattr(ingest_unit.Writer, "__exit__", failing(ingest_unit.Writer.__exit__))
        elif where == "index":
            patch.setattr(Path, "write_bytes", failing(Path.write_bytes, ".draft-"))
        elif where == "rename":
            patch.setattr(units, "digest", failing(units.digest))
        elif where == "folder":
            patch.setattr(units.tempfile, "mkdtemp", failing(units.tempfile.mkdtemp))
        else:
            patch.setattr(Path, "mkdir", failing(Path.mkdir, "/out"))
            left = 1
        with pytest.raises((OSError, UserError), match=os.strerror(number)):
            run(many, out=tmp_path / "out", **places)
    assert not list(units_of(tmp_path / "downloads").glob(".*")) and not (tmp_path / "out" / "corpus.json").exists()
    assert not list((tmp_path / "out").glob(".*"))
    shutil.rmtree(tmp_path / "out")
    run(many, out=tmp_path / "out", **places)
    run(many, out=tmp_path / "fresh", split=0.2)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_files_that_may_not_grow_fail_clearly(tmp_path: Path, many: Path) -> None:
    """The real thing: the system refuses to write more than some bytes to any file."""
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 500, 1500):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises((OSError, UserError), match="File too large"):
                run(many, out=tmp_path / "out", **places)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(units_of(tmp_path / "downloads").glob(".*"))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    run(many, out=tmp_path / "out", **places)
    run(many, out=tmp_path / "fresh", split=0.2)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


MARK = "SESAME_TEST_MARK"
RUN = """
import sys
from pathlib import Path

if __name__ == "__main__":
    from data_prep import ingest as module
    from data_prep.workers import Workers
    from tests.data_prep.test_bad_input import run

    module.UNIT_BYTES, module.SERIAL_BYTES = int(sys.argv[5]), 0
    source, out, downloads = map(Path, sys.argv[1:4])
    run(source, out=out, downloads=downloads, split=0.1, workers=Workers(int(sys.argv[4])))
"""


def start(folder: Path, source: Path, out: str, downloads: str, workers: int, unit: int) -> subprocess.Popen[bytes]:
    script = folder / "run.py"
    script.write_text(RUN)
    settings = [str(source), str(folder / out), str(folder / downloads), str(workers), str(unit)]
    root = str(Path(__file__).parents[2])
    env = os.environ | {MARK: str(folder), "PYTHONPATH": root}
    return subprocess.Popen([sys.executable, str(script), *settings], env=env)


def left_over(mark: str) -> list[int]:
    """Processes that were started with this mark."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with suppress(OSError):  # it ended
                if f"{MARK}={mark}\0".encode() in (place / "environ").read_bytes() + b"\0":
                    found.append(int(place.name))
    return found


def test_two_at_once_make_the_same(tmp_path: Path, many: Path) -> None:
    both = [start(tmp_path, many, out, "downloads", 1, 3000) for out in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    run(many, out=tmp_path / "fresh", split=0.1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "fresh")
    assert not list(units_of(tmp_path / "downloads").glob(".*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(8):
        (source / f"{number}.jsonl").write_text("".join(line(prose(number * 1000 + i)) for i in range(900)))
    began = time.monotonic()
    assert start(tmp_path, source, "whole", "whole-downloads", 2, 1 << 17).wait(120) == 0
    seconds, draw = time.monotonic() - began, random.Random(0)
    for kills in range(1, 21):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        process = start(tmp_path, source, "out", "downloads", 2, 1 << 17)
        time.sleep(draw.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.wait(30)
        end(tmp_path)
        assert len(list(units_of(tmp_path / "downloads").glob(".draft-*"))) <= 2 * kills, "one for each worker"
        if draw.random() < 0.3:
            for unit in units_of(tmp_path / "downloads").glob("[0-9a-f]*"):
                shutil.rmtree(unit)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert start(tmp_path, source, "out", "downloads", 2, 1 << 17).wait(120) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def end(folder: Path, seconds: float = 10) -> int:
    """Wait for processes that were started for a folder to end, and end those that do not; how many those are."""
    until = time.monotonic() + seconds
    while left_over(str(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    lost = left_over(str(folder))
    for process in lost:
        os.kill(process, signal.SIGKILL)
    return len(lost)


# -- what once did not hold -------------------------------------------------------------------------------------------


def test_a_fault_of_the_disk_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """A read that fails once must not be remembered as a bad row: the next run reads the file again."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(prose(number)) for number in range(100)))

    def failing(self: readers_rows.Lines, real: Any = readers_rows.Lines.__next__) -> Any:
        if self.number == 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers_rows.Lines, "__next__", failing)
        with suppress(OSError, UserError):
            run(path, out=tmp_path / "first", downloads=tmp_path / "downloads")
    assert run(path, out=tmp_path / "second", downloads=tmp_path / "downloads")["kept"] == 100


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


@pytest.mark.parametrize(
    "text",
    [
        *("seed: !!int abc", "seed: !!float abc", "seed: !!map abc", "seed: !!seq abc", "seed: !!seq {a: b}"),
        *("seed: !!map [a]", "seed: " + "1" * 5000, "default_scale: [a]\nscales: {a: {}}"),
    ],
)
def test_odd_yaml_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    fuzz.check_recipe(text.encode() + b"\n" + fuzz.valid_recipes()[1], tmp_path)


def test_names_that_are_taken_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": 1, "text": prose(n)}) + "\n" for n in range(3)))
    with pytest.raises(UserError, match="is taken by a document of"):
        run(path, out=tmp_path / "out", identity="id", max_rejects=0)


@pytest.mark.parametrize("change", ["moved", "shortened"])
def test_a_changed_cache_of_digests_changes_no_row(tmp_path: Path, many: Path, change: str) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    run(many, out=tmp_path / "one", **places)
    path = tmp_path / "downloads" / "digests.json"
    known = json.loads(path.read_text())
    for found in known.values():
        if isinstance(found, list):
            found[1] = [found[1][0] + 500, *found[1][1:]] if change == "moved" else found[1][:2]
    path.write_text(json.dumps(known))
    run(many, out=tmp_path / "two", **places)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_names_of_a_damaged_unit_are_forgotten(tmp_path: Path, many: Path) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    run(many, out=tmp_path / "one", **places)
    for path in units_of(tmp_path / "downloads").glob("*/names.arrow"):
        path.write_bytes(path.read_bytes().replace(b"a.jsonl:", b"b.jsonl:"))  # in place, where it is mapped
    run(many, out=tmp_path / "two", **places)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_unit_that_cannot_get_its_name_is_told(tmp_path: Path, many: Path) -> None:
    def fails(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises((OSError, UserError), match="Input/output error"):
            run(many, out=tmp_path / "out")


def test_damaged_units_leave_nothing_behind(tmp_path: Path, many: Path) -> None:
    run(many, out=tmp_path / "one", downloads=tmp_path / "downloads")
    unit = next(units_of(tmp_path / "downloads").iterdir())
    before = {path.name for path in unit.iterdir()}
    (unit / "keys.u64").write_bytes(b"damaged")
    run(many, out=tmp_path / "two", downloads=tmp_path / "downloads")
    assert {path.name for path in unit.iterdir()} == before


def test_a_changed_corpus_is_refused(tmp_path: Path, many: Path) -> None:
    run(many, out=tmp_path / "out")
    path = next(iter(Corpus(tmp_path / "out").files))
    path.write_bytes(path.read_bytes().replace(b"river", b"liver"))
    with pytest.raises(UserError):
        texts(tmp_path / "out")


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_is_killed_at_once(tmp_path: Path, many: Path) -> None:
    lost = 0
    for wait in np.linspace(0, 0.3, 10):
        process = start(tmp_path, many, "out", "downloads", 2, 3000)
        while len(left_over(str(tmp_path))) < 3 and process.poll() is None:
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
        process.wait(30)
        lost += end(tmp_path, 5)
    assert lost == 0
