"""Who reads, when, and in how many pieces does not show in a corpus; what is new alone is read."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import ingest as module
from data_prep.compute.workers import HERE, WorkerPool, Workers
from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig, split_key
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest import plan as plan_module
from data_prep.text.ingest import units
from data_prep.text.ingest.plan import plan
from tests.data_prep.ingesting import ingest

WORDS = ["river", "farmer", "senate", "winter", "market", "letter", "mountain", "engine", "builds", "slowly", "again"]


def prose(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + ("." if place % 9 == 8 else "") for place in range(words))


def write_lines(path: Path, texts: list[str], **more: Any) -> Path:
    path.write_text("".join(json.dumps({"text": text, **more}) + "\n" for text in texts))
    return path


def make(
    folder: Path, *paths: Path, out: str = "out", workers: Workers = HERE, **clean: Any
) -> tuple[dict[str, Any], Path]:
    sources = [SourceConfig(path=str(path)) for path in paths]
    config = CleanConfig(**{"max_rejects": 1.0, **clean})
    split = SplitConfig(validation=0.1, test=0.1)
    summary = ingest(sources, config, split, 0, folder / out, folder / f"downloads-{out}", workers=workers)
    return summary, folder / out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def documents(folder: Path) -> dict[str, list[tuple[str, list[str]]]]:
    return {split: [(d.name, d.sentences) for d in Corpus(folder, split).documents] for split in SPLITS}


def rejects(folder: Path) -> list[tuple[str, int, str]]:
    rows = pa.ipc.open_file(str(folder / "rejects.arrow")).read_all().to_pylist()
    return [(row["source"], row["position"], row["reason"]) for row in rows]


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 3000)
    monkeypatch.setattr(module, "SERIAL_BYTES", 0)


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """A large file, some small ones, copies within and across them, and bad rows."""
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [prose(seed) for seed in range(60)]
    lines[40] = lines[3]
    large = write_lines(folder / "large.jsonl", lines)
    large.write_text(large.read_text() + '{"text": 4}\nnonsense\n')
    for number in range(8):
        (folder / f"{number}.txt").write_text(prose(3 if number == 5 else 1000 + number))
    return [folder]


# -- pieces and processes ---------------------------------------------------------------------------------------------


def test_processes_give_the_same_bytes(tmp_path: Path, texts: list[Path], small_units: None) -> None:
    summary, alone = make(tmp_path, *texts, out="one")
    again, together = make(tmp_path, *texts, out="two", workers=Workers(2))
    assert contents(alone) == contents(together) and summary == again
    assert len(list((alone / "train").iterdir())) > 5
    assert (summary["rows"], summary["kept"], summary["duplicates"]) == (70, 66, 2)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(300, 40_000))
def test_the_size_of_units_does_not_show_in_the_documents(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    folder = tmp_path_factory.mktemp("units")
    lines = write_lines(folder / "a.jsonl", [prose(seed % 25) for seed in range(30)])
    more = write_lines(folder / "b.jsonl", [prose(seed) for seed in range(20, 40)])
    whole = make(folder, lines, more, out="whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "UNIT_BYTES", size)
        cut = make(folder, lines, more, out="cut")
    assert documents(cut[1]) == documents(whole[1]) and rejects(cut[1]) == rejects(whole[1])
    skipped = ("sources",)  # how many bytes were read in how many units
    assert {k: v for k, v in cut[0].items() if k not in skipped} == {
        k: v for k, v in whole[0].items() if k not in skipped
    }


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(tmp_path: Path, texts: list[Path], small_units: None) -> None:
    import ray

    _, local = make(tmp_path, *texts, out="one")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        _, clustered = make(tmp_path, *texts, out="two", workers=Workers(1, ray="auto"))
    finally:
        ray.shutdown()
    assert contents(local) == contents(clustered)


def _dies(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_one_sentence() -> None:
    ended = r"was ended from outside .* what is finished is kept"
    with pytest.raises(UserError, match=ended), WorkerPool(Workers(2)) as pool:
        list(pool.in_order(_dies, range(6)))


def _fails(number: int) -> int:
    if number == 1:
        raise UserError("row 1 is bad")
    time.sleep(0.2)
    return number


def test_an_error_of_a_job_ends_the_others() -> None:
    with pytest.raises(UserError, match="row 1 is bad"), WorkerPool(Workers(2)) as pool:
        results = pool.in_order(_fails, range(1000))
        assert next(results) == 0
        list(results)
    assert not multiprocessing.active_children()


# -- what was done is not done again ----------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the parts that are read, as they are."""
    seen: list[str] = []
    rows = units.rows
    monkeypatch.setattr(units, "rows", lambda part, *rest: seen.append(part.name) or rows(part, *rest))
    yield seen


def test_new_files_alone_are_read(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 1500)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(0, 40, 2):
        (folder / f"{number:02d}.txt").write_text(prose(number))
    make(tmp_path, folder)
    assert len(read) == 20
    read.clear()
    make(tmp_path, folder)
    assert read == []
    for number in (17, 41):
        (folder / f"{number}.txt").write_text(prose(number))
    (folder / "08.txt").write_text(prose(99))
    shutil.rmtree(tmp_path / "out")
    _, updated = make(tmp_path, folder)
    assert {"texts/17.txt", "texts/41.txt", "texts/08.txt"} <= set(read)
    assert len(read) < 12  # a file shares its unit with a few others
    assert contents(updated) == contents(make(tmp_path, folder, out="fresh")[1])


def test_a_run_that_was_ended_goes_on(tmp_path: Path, texts: list[Path], read: list[str], small_units: None) -> None:
    _, whole = make(tmp_path, *texts, out="whole")
    everything, rows = list(read), units.rows
    read.clear()

    def fails(part: Any, *rest: Any) -> Any:
        if len(read) == 7:
            raise OSError("power cut")
        return rows(part, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "rows", fails)
        with pytest.raises(OSError, match="power cut"):
            make(tmp_path, *texts)
    before = list(read)
    read.clear()
    _, resumed = make(tmp_path, *texts)
    assert contents(resumed) == contents(whole)
    assert set(before) | set(read) == set(everything) and len(read) < len(everything)


def test_a_damaged_unit_is_made_again(tmp_path: Path, texts: list[Path], read: list[str]) -> None:
    _, whole = make(tmp_path, *texts, out="out")
    expected = contents(whole)
    for path in (tmp_path / "downloads-out" / "units").glob("*/names.arrow"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    read.clear()
    assert contents(make(tmp_path, *texts, out="out")[1]) == expected and read


def test_rules_change_units_and_limits_do_not(tmp_path: Path, texts: list[Path]) -> None:
    def keys(**clean: Any) -> list[str]:
        sources = [SourceConfig(path=str(path)) for path in texts]
        return [unit.key for unit in plan(sources, CleanConfig(**clean), tmp_path / "downloads")]

    assert keys() == keys(max_rejects=3, drop_duplicates=False)
    assert not set(keys()) & set(keys(normalisation="nfkc"))
    words = tmp_path / "words.txt"
    words.write_text("bad\n")
    before = keys(rules={"c4": {"bad_words": str(words)}})
    words.write_text("worse\n")
    assert not set(before) & set(keys(rules={"c4": {"bad_words": str(words)}}))


# -- which rows stay --------------------------------------------------------------------------------------------------

ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), max_size=14)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_copies_and_taken_names_lose_no_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """Names and texts that repeat in every way: a kept row has a name and a text of its own, and none is left out."""
    folder = tmp_path_factory.mktemp("rows")
    path = folder / "a.jsonl"
    rows = [("first", "first"), *rows]
    path.write_text("".join(json.dumps({"id": name, "text": f"{text} text."}) + "\n" for name, text in rows))
    source = SourceConfig(path=str(path), id_field="id")
    split = SplitConfig(validation=0, test=0)
    summary = ingest([source], CleanConfig(max_rejects=1.0), split, 0, folder / "out", folder / "downloads")
    kept = [(d.name, d.sentences[0].split()[0]) for d in Corpus(folder / "out").documents]
    assert len({name for name, _ in kept}) == len({text for _, text in kept}) == len(kept)
    assert summary["kept"] + summary["rejected"] == len(rows) == summary["kept"] + len(rejects(folder / "out"))
    names, texts = {name for name, _ in kept}, {text for _, text in kept}
    assert all(name in names or text in texts for name, text in rows)
    for _, position, reason in rejects(folder / "out"):
        name, text = rows[position - 1]
        assert text in texts if reason.startswith("duplicate of") else name in names


def test_near_copies_are_left_out(tmp_path: Path) -> None:
    text = prose(7, 300)
    near = text.replace("river", "stream", 1)
    path = write_lines(tmp_path / "a.jsonl", [text, prose(8, 300), near, text, prose(9, 300)])
    summary, folder = make(tmp_path, path, near_duplicates={})
    assert rejects(folder) == [
        ("a.jsonl", 3, "near duplicate of a.jsonl:1"),
        ("a.jsonl", 4, "duplicate of a.jsonl:1"),
    ]
    assert (summary["kept"], summary["duplicates"], summary["near_duplicates"]) == (3, 1, 1)


def test_what_rules_leave_out_is_counted_and_not_bad(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        [
            "This is a sentence in the English language, which has some more words. Write to me@example.org for that.",
            "Dieser Satz ist in deutscher Sprache geschrieben und deshalb soll er hier nicht bleiben dürfen.",
        ],
    )
    rules = {"language": {"languages": ["en"]}, "personal_data": {}}
    summary, folder = make(tmp_path, path, max_rejects=0, rules=rules)
    assert rejects(folder) == [("a.jsonl", 2, "language: not en")]
    assert (summary["kept"], summary["filtered"], summary["rules"]) == (1, 1, {"masked e-mail": 1})
    assert "Write to <email> for that." in Corpus(folder)[0].sentences


def test_rules_are_loaded_once_for_all_units(
    tmp_path: Path, texts: list[Path], small_units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    rules = units.Rules
    monkeypatch.setattr(units, "Rules", lambda *settings: loaded.append(settings) or rules(*settings))
    quiz = tmp_path / "quiz.txt"
    for text in ("first", "second"):
        quiz.write_text(f"The {text} question of a quiz that nobody has ever been asked.")
        make(tmp_path, *texts, out=text, rules={"decontamination": {"evaluation": [{"path": str(quiz)}]}})
        assert len(list((tmp_path / f"downloads-{text}" / "units").iterdir())) > 5
    assert len(loaded) == 2


def test_where_documents_come_from_is_told(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a.jsonl", [prose(1), prose(2)])
    second = write_lines(tmp_path / "b.jsonl", [prose(2), prose(3)])
    summary, _ = make(tmp_path, first, second)
    counts = [
        (source["source"], source["files"], source["rows"], source["kept"], source["bytes"])
        for source in summary["sources"]
    ]
    sizes = [path.stat().st_size for path in (first, second)]
    assert counts == [(str(first), 1, 2, 2, sizes[0]), (str(second), 1, 2, 1, sizes[1])]


def test_parts_of_a_mixture_are_kept_apart(tmp_path: Path) -> None:
    web = SourceConfig(path=str(write_lines(tmp_path / "a.jsonl", [prose(seed) for seed in range(20)])), corpus="web")
    books = SourceConfig(path=str(write_lines(tmp_path / "b.jsonl", [prose(30), prose(31)])), corpus="books")
    ingest([web, books], CleanConfig(), SplitConfig(validation=0, test=0), 0, tmp_path / "out", tmp_path / "downloads")
    assert Corpus(tmp_path / "out").parts == ["books", "web"]
    assert [len(Corpus(tmp_path / "out", "train", part)) for part in (None, "web", "books")] == [22, 20, 2]


def test_the_smallest_keys_are_held_out(tmp_path: Path, small_units: None) -> None:
    path = write_lines(tmp_path / "a.jsonl", [prose(seed) for seed in range(60)])
    _, folder = make(tmp_path, path)
    ranked = sorted((f"a.jsonl:{line}" for line in range(1, 61)), key=lambda name: split_key(0, name))
    assert set(Corpus(folder, "validation").names) == set(ranked[:6])
    assert set(Corpus(folder, "test").names) == set(ranked[6:12])


def test_passages_are_documents(tmp_path: Path) -> None:
    """One long document becomes parts that can be held out; none of its sentences is lost, and paragraphs stay."""
    sentences = [f"This is the sentence that has number {number}." for number in range(100)]
    paragraphs = [" ".join(sentences[start : start + 7]) for start in range(0, 100, 7)]
    (tmp_path / "one.txt").write_text("\n\n".join(paragraphs))
    summary = ingest(
        [SourceConfig(path=str(tmp_path / "one.txt"))],
        CleanConfig(passage_words=64),
        SplitConfig(validation=0.2, test=0.2),
        0,
        tmp_path / "out",
        tmp_path / "downloads",
    )
    assert (summary["kept"], summary["rejected"]) == (12, 0)
    assert [summary["splits"][split]["documents"] for split in ("train", "validation", "test")] == [8, 2, 2]
    document_by_name = {}
    for split in ("train", "validation", "test"):
        corpus = Corpus(tmp_path / "out", split)
        for number in range(len(corpus)):
            document_by_name[corpus[number].name] = corpus[number]
    passages = [document_by_name[f"one.txt, passage {number}"] for number in range(1, 13)]
    assert [sentence for passage in passages for sentence in passage.sentences] == sentences
    assert {len(passage.sentences) for passage in passages} == {8, 12}, "what is left at the end joins the last one"
    assert passages[1].paragraphs == [0, 0, 0, 0, 0, 0, 1, 1]
