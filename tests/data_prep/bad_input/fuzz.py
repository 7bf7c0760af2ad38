"""A fuzzer that is guided by coverage: whatever happens to valid bytes, only what is promised comes out.

    python -m tests.data_prep.bad_input.fuzz readers|shards|recipe SECONDS [FOLDER]

    readers   every format, compression and archive: each row is a document or a reject, and no exception leaves
    shards    shards and token corpora: ShardDamaged, UserError or the right rows
    recipe    packaged recipes: a Recipe or a UserError

Each takes time in proportion to its bytes. Needs `pip install atheris`. It goes on after a failure: each kind is
printed once, with what made it in FOLDER (default `/tmp/sesame-fuzz`), and the exit code is 1 at the end. The tests
use the same changes and checks with hypothesis.
"""

from __future__ import annotations

import faulthandler
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

HANG = 20  # seconds that one input may take
FREE, PER_BYTE = 2.0, 100e-6  # seconds of the processor that it should take, with atheris's counters
LARGEST = 1 << 20


class Change(NamedTuple):
    """One thing that happens to bytes; places and sizes are taken modulo what there is."""

    kind: int
    place: int
    size: int
    value: int


KINDS = ("flip", "set", "zero", "cut", "remove", "repeat", "splice", "insert", "grow")
WORDS = (b"\x00", b"\xff\xfe", b"\xff" * 4, b"\xff" * 8, b"\x00" * 8, b"\x7f\xff\xff\xff", b"\n", b'"', b"\xed\xa0\x80")


def change(data: bytes, changes: Sequence[Change], other: bytes = b"", words: Sequence[bytes] = WORDS) -> bytes:
    """The bytes after all changes; `other`: valid bytes of which pieces come in."""
    out = bytearray(data)
    for edit in changes:
        kind = KINDS[edit.kind % len(KINDS)]
        place = edit.place % (len(out) + 1)
        size = edit.size % 64 + 1
        if kind == "flip" and place < len(out):
            out[place] ^= 1 << edit.value % 8
        elif kind == "set" and place < len(out):
            out[place] = edit.value % 256
        elif kind == "zero":
            out[place : place + size] = bytes(len(out[place : place + size]))
        elif kind == "cut":
            del out[place:]
        elif kind == "remove":
            del out[place : place + size]
        elif kind == "repeat":
            out[place:place] = out[place : place + size]
        elif kind == "splice" and other:
            start = edit.value * 7919 % len(other)
            out[place : place + size] = other[start : start + edit.size % len(other) + 1]
        elif kind == "insert":
            out[place:place] = words[edit.value % len(words)]
        elif kind == "grow":
            out[place:place] = out[place : place + 8] * (edit.size % 64)
    return bytes(out[:LARGEST])


# -- readers ----------------------------------------------------------------------------------------------------------


@cache
def valid_files() -> dict[str, bytes]:
    """A small valid file of every format, alone, compressed and in archives."""
    from tests.data_prep.text.formats import test_formats as made

    plain = {
        "a.txt": "Plain words.\nSecond line, with émigrés.".encode(),
        "a.jsonl": b'{"text": "One.", "n": 1}\n{"text": "Two \\u00e9.", "s": "x", "n": 2.5}\n\n{"text": "Three."}\n',
        **made.FILES,
        **_web(),
    }
    files = dict(plain)
    with tempfile.TemporaryDirectory() as folder:
        files["a.zip"] = made.zipped(Path(folder) / "a.zip", made.MEMBERS).read_bytes()
        files["a.tar"] = made.tar(Path(folder) / "a.tar", made.MEMBERS).read_bytes()
    for suffix, compress in made.COMPRESS.items():
        if suffix:
            files |= {name + suffix: compress(raw) for name, raw in plain.items()}
            files[f"a.tar{suffix}"] = compress(files["a.tar"])
    return files


def _web() -> dict[str, bytes]:
    from tests.data_prep.text.formats import test_wiki as wiki

    header = b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:%d>\r\nContent-Length: %d\r\n\r\n"
    texts = [b"The first page.", b"The second page has more words.", "Dritte Seite: Grüße.".encode()]
    response = header.replace(b"conversion", b"response")
    html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body><p>Words of a page.</p></body></html>"
    markup = "'''Page''' {{x|y}} [[Link|words]] <ref>r</ref> and so on."
    return {
        "a.xml": wiki.dump(wiki.page(1, markup), wiki.page(2, markup)),
        "a.wet": b"".join(header % (n, len(text)) + text + b"\r\n\r\n" for n, text in enumerate(texts)),
        "a.warc": b"".join(response % (n, len(html)) + html + b"\r\n\r\n" for n in range(2)),
    }


def changed_file(name: str, changes: Sequence[Change], inside: bool, other: str) -> bytes:
    """A valid file after changes; `inside`: to what is compressed, so that its check sums are right."""
    from data_prep.sources import compressed
    from tests.data_prep.text.formats.test_formats import COMPRESS

    files = valid_files()
    base = compressed.split(name)[0]
    if inside and base != name and base in files:
        raw = change(files[base], changes, files.get(other, b""))
        return COMPRESS[name.removeprefix(base)](_with_sums(raw) if base.endswith(".tar") else raw)
    raw = change(files[name], changes, files.get(other, b""))
    return _with_sums(raw) if inside and name.endswith(".tar") else raw


def _with_sums(raw: bytes) -> bytes:
    """A tar file whose headers have the right check sums again."""
    out = bytearray(raw)
    for start in range(0, len(out) - 511, 512):
        if out[start + 257 : start + 262] == b"ustar":
            out[start + 148 : start + 156] = b" " * 8
            out[start + 148 : start + 156] = b"%06o\0 " % sum(out[start : start + 512])
    return bytes(out)


def check_rows(name: str, data: bytes) -> list[Any]:
    """Read bytes as a file of this name; AssertionError where the rows are not what is promised."""
    from data_prep.sources.records import Document, Fields, Reject
    from data_prep.text.formats.formats import read_opened

    rows = list(read_opened(lambda: io.BytesIO(data), len(data), name, Fields()))
    assert rows, "a file that yields nothing was lost without a word"
    for row in rows:
        assert row.position >= 1 and row.source.startswith(name), row
        if isinstance(row, Document):
            assert row.text.strip() and row.name, row
            for text in (row.name, row.text, *row.meta, *(v for v in row.meta.values() if isinstance(v, str))):
                text.encode()
        else:
            assert isinstance(row, Reject) and row.reason, row
            (row.reason + row.excerpt + row.source).encode()
    return rows


# -- shards -----------------------------------------------------------------------------------------------------------


@cache
def valid_folders() -> dict[str, dict[str, bytes]]:
    """Files of a folder of shards, and of a token corpus, by name."""
    import numpy as np

    from data_prep.shards.writer import ShardWriter
    from data_prep.tokens.corpus import TokenCorpus

    with tempfile.TemporaryDirectory() as folder:
        shards, tokens = Path(folder) / "shards", Path(folder) / "tokens"
        writer = ShardWriter(shards, 20, 8)
        writer.write(_rows())
        writer.close()
        ids = np.arange(30, dtype=np.uint16)
        TokenCorpus(ids, ids % 3 == 0, np.arange(0, 31, 3), np.array([0, 4, 4, 10])).save(tokens)
        return {
            where.name: {path.name: path.read_bytes() for path in sorted(where.iterdir())} for where in (shards, tokens)
        }


@cache
def _rows() -> Any:
    import numpy as np

    from data_prep.shards.rows import Ragged

    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 50)
    tokens = rng.integers(0, 60_000, lengths.sum()).astype(np.uint16)
    return {"input": Ragged.from_lengths(tokens, lengths), "document": np.arange(50, dtype=np.uint32)}


def check_folder(kind: str, file: str, data: bytes | None, place: Path) -> bool:
    """Read a folder one of whose files is `data` now (None: gone); whether it was refused.

    AssertionError where other rows come out than were written.
    """
    import numpy as np

    from data_prep.errors import UserError
    from data_prep.shards.reader import Shards
    from data_prep.shards.rows import ragged
    from data_prep.tokens.corpus import TokenCorpus

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, raw in valid_folders()[kind].items():
        content = data if name == file else raw
        if content is not None:
            (place / name).write_bytes(content)
    try:
        if kind == "shards":
            rows = Shards(place).read(np.arange(50))
            assert Shards(place).verify() == []
            assert np.array_equal(ragged(rows, "input").values, _rows()["input"].values)
            assert np.array_equal(ragged(rows, "input").offsets, _rows()["input"].offsets)
            assert np.array_equal(np.asarray(rows["document"]), _rows()["document"])
        else:
            corpus = TokenCorpus.open(place)
            assert corpus.tokens.tolist() == list(range(30)) and corpus.document_offsets.tolist() == [0, 4, 4, 10]
            assert corpus.sentence_offsets.tolist() == list(range(0, 31, 3))
            assert corpus.word_start.tolist() == [number % 3 == 0 for number in range(30)]
    except UserError as error:
        assert str(error)
        return True
    return False


def check_shards_apart(file: str, data: bytes, place: Path) -> None:
    """Each record batch by itself is right or refused, and `verify` names what is wrong."""
    import numpy as np

    from data_prep.errors import UserError
    from data_prep.shards.reader import Shards

    if not check_folder("shards", file, data, place):
        return
    try:
        shards = Shards(place)
    except UserError:
        return
    assert shards.verify(), "damage that verify does not see"
    start = 0
    for number in range(shards.num_batches):
        size = [8, 8, 4, 8, 8, 4, 8, 2][number]
        try:
            assert np.array_equal(np.asarray(shards.batch(number)["document"]), np.arange(start, start + size))
        except UserError:  # refused
            continue
        finally:
            start += size


# -- recipes ----------------------------------------------------------------------------------------------------------

YAML_WORDS = tuple(
    word.encode()
    for word in (
        *("null", "true", "1e400", "-1", "0", "9" * 30, "''", "[]", "{}", "~", ".5", "1_0", "é", "\\ud800", "2.0"),
        *("!!str ", "!!int ", "!!float ", "!!map ", "!!seq ", "!!python/name:os.system ", "&a ", "*a", "<<: *a"),
        *("? ", "| ", "> ", "- ", ": ", "\t", "#", "---\n", "{", "[", "}", "]", ",", '"', "scale: tiny\n"),
        *("scales: {tiny: {train.steps: 3}}\n", "default_scale: tiny\n", "default_scale: [tiny]\n"),
    )
)


@cache
def valid_recipes() -> tuple[bytes, ...]:
    folder = Path(__file__).parents[3] / "pipeline" / "recipes"
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.yaml")))


def check_recipe(data: bytes, place: Path) -> None:
    """An experiment or a UserError of one sentence; a recipe is written as it is read back."""

    from data_prep.errors import UserError
    from pipeline.recipe.load import load
    from pipeline.recipe.recipe import Experiment

    path = place / "a.yaml"
    path.write_bytes(data)
    try:
        recipe = load(path)
    except UserError as error:
        assert str(error)
        return
    assert isinstance(recipe, Experiment)
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load(path) == recipe, "a resolved recipe is another one when it is read back"


# -- the fuzzer -------------------------------------------------------------------------------------------------------


def _targets(place: Path) -> dict[str, Callable[[Any], tuple[Any, Callable[[], object]]]]:
    """For each target: from a provider of choices to what is tried, and the trial itself."""

    def changes(provider: Any) -> list[Change]:
        pick = provider.ConsumeIntInRange
        return [Change(pick(0, 63), pick(0, 0xFFFF), pick(0, 255), pick(0, 255)) for _ in range(pick(1, 6))]

    def readers(provider: Any) -> tuple[Any, Callable[[], object]]:
        names = list(valid_files())
        name, other = names[provider.ConsumeIntInRange(0, 255) % len(names)], provider.ConsumeIntInRange(0, 255)
        inside = provider.ConsumeBool()
        data = changed_file(name, changes(provider), inside, names[other % len(names)])
        return (name, data), lambda: check_rows(name, data)

    def shards(provider: Any) -> tuple[Any, Callable[[], object]]:
        kind = ("shards", "shards", "tokens")[provider.ConsumeIntInRange(0, 2)]
        files = valid_folders()[kind]
        names = list(files)
        name = names[provider.ConsumeIntInRange(0, 255) % len(names)]
        other = names[provider.ConsumeIntInRange(0, 255) % len(names)]
        data = change(files[name], changes(provider), files[other])
        if kind == "shards":
            return (name, data), lambda: check_shards_apart(name, data, place / "folder")
        return (name, data), lambda: check_folder(kind, name, data, place / "folder")

    def recipe(provider: Any) -> tuple[Any, Callable[[], object]]:
        known = valid_recipes()
        data, other = known[provider.ConsumeIntInRange(0, 1)], known[provider.ConsumeIntInRange(0, 1)]
        data = change(data, changes(provider), other, YAML_WORDS)
        return ("a.yaml", data), lambda: check_recipe(data, place)

    return {"readers": readers, "shards": shards, "recipe": recipe}


def main(target: str, seconds: float, folder: Path) -> None:
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["data_prep", "pipeline"]):
        import pipeline.recipe.recipe  # noqa: F401

        valid_files()
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="sesame-fuzz-"))
    trial, until = _targets(place)[target], time.monotonic() + seconds
    seen: dict[str, int] = {}
    runs = 0

    def once(data: bytes) -> None:
        nonlocal runs
        runs += 1
        tried, check = trial(atheris.FuzzedDataProvider(data))
        (folder / "last").write_bytes(repr(tried[0]).encode() + b"\n" + tried[1])  # for crashes of libraries
        faulthandler.dump_traceback_later(HANG, exit=True)
        started = time.process_time()
        try:
            check()
            taken = time.process_time() - started
            assert taken < FREE + PER_BYTE * len(tried[1]), f"takes {taken:.1f} s"
        except Exception as error:
            signature = _signature(error)
            seen[signature] = seen.get(signature, 0) + 1
            if seen[signature] == 1:
                name = f"{target}-{hashlib.sha256(signature.encode()).hexdigest()[:8]}-{tried[0]}"
                (folder / name).write_bytes(tried[1])
                print(f"\nFAILED {signature}\n  {folder / name}", flush=True)
                traceback.print_exc(limit=-4)
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() > until:
            shutil.rmtree(place, ignore_errors=True)
            print(f"\n{target}: {runs:,} runs, {len(seen)} kinds of failure", flush=True)
            for known, times in seen.items():
                print(f"  {times:6,} × {known}")
            sys.stdout.flush()
            os._exit(1 if seen else 0)

    corpus = place / "corpus"
    corpus.mkdir()
    for number in range(64):
        (corpus / str(number)).write_bytes(hashlib.sha512(str(number).encode()).digest())
    atheris.Setup([sys.argv[0], str(corpus), "-max_len=256", "-rss_limit_mb=4096", "-verbosity=0"], once)
    atheris.Fuzz()


def _signature(error: BaseException) -> str:
    """What a failure is called: its kind, and the last line of ours on the way to it."""
    ours = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent.name in ("data_prep", "pipeline")
    ]
    message = re.sub(r"'.*'|[\d.]+|0x[0-9a-f]+|position.*", "…", str(error)[:80])
    return f"{type(error).__name__} at {ours[-1] if ours else '?'}: {message}"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(*sys.argv[3:4] or ["/tmp/sesame-fuzz"]))
