"""Repeated spans against their definition, in one process and in two, at once and file by file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import ingest as module
from data_prep.compute.workers import HERE, Workers
from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest import decide
from data_prep.text.ingest import plan as plan_module
from data_prep.text.rules import spans as rules_spans
from data_prep.text.rules.spans import SENTENCE, TOO_LITTLE, span_keys, without_marked
from tests.data_prep.ingesting import ingest
from tests.data_prep.test_ingest import contents, rejects

PLAIN = {"end_marks": [], "min_words_per_line": 0, "min_sentences": 0}
Texts = list[str]  # a letter stands for a sentence


def sentence(letter: str) -> str:
    return f"The {letter * 3} word stands here."


def document(letters: str) -> str:
    return " ".join(map(sentence, letters))


def by_definition(texts: Sequence[str], n: int, least: int) -> tuple[list[str | None], int]:
    """What is left of each text, None where it is too little, and how many sentences went from those that stay."""
    seen: set[str] = set()
    remaining: list[str | None] = []
    lost = 0
    for text in texts:
        goes: set[int] = set()
        for place in range(len(text) - n + 1):
            span = text[place : place + n].lower()
            if span in seen:
                goes |= set(range(place, place + n))
            seen.add(span)
        left = "".join(letter for place, letter in enumerate(text) if place not in goes)
        remaining.append(left if len(left) >= max(least, 1) or not goes else None)
        lost += len(goes) if remaining[-1] is not None else 0
    return remaining, lost


def write(folder: Path, name: str, texts: Sequence[str]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"text": document(text)}) + "\n" for text in texts))
    return path


def run(
    out: Path, *paths: Path, downloads: Path | None = None, workers: Workers = HERE, c4: dict[str, Any], **clean: Any
) -> dict[str, Any]:
    config = CleanConfig.model_validate(
        {"drop_duplicates": False, "max_rejects": 1.0, **clean, "rules": {"c4": {**PLAIN, **c4}}}
    )
    sources = [SourceConfig(path=str(path)) for path in paths]
    downloads = downloads or out.with_name(f"{out.name}-downloads")
    return ingest(sources, config, SplitConfig(validation=0, test=0), 0, out, downloads, workers=workers)


def left(folder: Path) -> dict[str, str]:
    """Letters of the sentences of every document."""
    return {d.name: "".join(s[4] for s in d.sentences) for split in SPLITS for d in Corpus(folder, split).documents}


TEXTS = st.lists(st.text("abcA", min_size=1, max_size=9), min_size=1, max_size=10)


@settings(max_examples=120, deadline=None)
@given(files=st.lists(TEXTS, min_size=1, max_size=3), n=st.integers(1, 4), least=st.integers(0, 4), cut=st.booleans())
def test_repeated_spans_go_as_defined(
    tmp_path_factory: pytest.TempPathFactory, files: list[Texts], n: int, least: int, cut: bool
) -> None:
    """However little fits into memory, and in however many units."""
    folder = tmp_path_factory.mktemp("spans")
    files[0].insert(0, "xyz")  # stays whatever happens, for a corpus must have something
    paths = [write(folder, f"{number}.jsonl", texts) for number, texts in enumerate(files)]
    with pytest.MonkeyPatch.context() as patch:
        if cut:
            patch.setattr(plan_module, "UNIT_BYTES", 300)
            patch.setattr(decide, "_ROWS_IN_MEMORY", 3)
            patch.setattr(rules_spans, "_AT_ONCE", 4)
            patch.setattr(rules_spans, "_WAITING", 2)
        # the pages' own test of three sentences is not what is tried here
        patch.setattr("data_prep.text.rules.c4.C4._has_too_few_sentences", lambda self, lines: False)
        summary = run(folder / "out", *paths, c4={"span_sentences": n, "min_sentences": least})
    expected, lost = by_definition([text for texts in files for text in texts], n, least)
    names = [
        f"{path.name}:{line}" for path, texts in zip(paths, files, strict=True) for line in range(1, len(texts) + 1)
    ]
    assert left(folder / "out") == {name: text for name, text in zip(names, expected, strict=True) if text is not None}
    refused = [
        (name.split(":")[0], int(name.split(":")[1]), TOO_LITTLE)
        for name, text in zip(names, expected, strict=True)
        if text is None
    ]
    assert rejects(folder / "out") == refused
    assert (summary["filtered"], summary["rejected"]) == (len(refused), len(refused))
    assert summary["reasons"] == ({TOO_LITTLE: len(refused)} if refused else {})
    assert summary["rules"] == ({SENTENCE: lost} if lost else {})
    if not refused:  # nothing is lost but repeats
        everything = "".join(text for texts in files for text in texts)
        assert set("".join(left(folder / "out").values()).lower()) == set(everything.lower())
    by_source = [sum(source == path.name for source, _, _ in refused) for path in paths]
    assert [counts["reasons"].get(TOO_LITTLE, 0) for counts in summary["sources"]] == by_source
    assert [counts["rows"] - counts["kept"] for counts in summary["sources"]] == by_source


def test_what_is_kept_and_what_goes(tmp_path: Path) -> None:
    texts = ["abcdef", "xabcdy", "bcde", "pqr", "ab", "uvwuvwz", "ssssss"]
    summary = run(tmp_path / "out", write(tmp_path, "a.jsonl", texts), c4={"span_sentences": 3})
    assert left(tmp_path / "out") == {
        "a.jsonl:1": "abcdef",
        "a.jsonl:2": "xy",
        "a.jsonl:4": "pqr",
        "a.jsonl:5": "ab",
        "a.jsonl:6": "uvwz",
        "a.jsonl:7": "s",
    }
    assert rejects(tmp_path / "out") == [("a.jsonl", 3, TOO_LITTLE)]
    assert summary["rules"] == {SENTENCE: 4 + 3 + 5}
    assert summary["splits"]["train"]["sentences"] == 6 + 2 + 3 + 2 + 4 + 1


def test_the_published_rules_have_it_and_it_can_be_switched_off(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", ["abcd", "abcxyz"])
    sources, split = [SourceConfig(path=str(path))], SplitConfig(validation=0, test=0)
    for name, c4, second in (("on", {}, "xyz"), ("off", {"span_sentences": None}, "abcxyz")):
        config = CleanConfig.model_validate({"rules": {"c4": c4}})
        ingest(sources, config, split, 0, tmp_path / name, tmp_path / "downloads")
        assert left(tmp_path / name) == {"a.jsonl:1": "abcd", "a.jsonl:2": second}
    assert not list((tmp_path / "out-downloads").glob("*/*/spans.u64"))


def test_copies_and_rows_without_a_name_of_their_own_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [("one", "abcd"), ("one", "efgh"), ("two", "efghi"), ("three", "abcd"), ("four", "jklm")]
    path.write_text("".join(json.dumps({"id": name, "text": document(text)}) + "\n" for name, text in rows))
    config = CleanConfig.model_validate({"max_rejects": 1.0, "rules": {"c4": PLAIN}})
    source = SourceConfig(path=str(path), id_field="id")
    summary = ingest([source], config, SplitConfig(validation=0, test=0), 0, tmp_path / "out", tmp_path / "downloads")
    assert left(tmp_path / "out") == {"one": "abcd", "two": "efghi", "four": "jklm"}
    assert summary["reasons"] == {"duplicate": 1, "name taken": 1} == summary["sources"][0]["reasons"]
    assert summary["rules"] == {}


def test_near_copies_do_not_count(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrst"
    texts = [letters, f"{letters[:-1]}z", f"{letters[10:13]}z"]
    run(tmp_path / "out", write(tmp_path, "a.jsonl", texts), c4={}, near_duplicates={"threshold": 0.7})
    assert left(tmp_path / "out") == {"a.jsonl:1": letters, "a.jsonl:3": "z"}


def test_too_few_characters_are_too_little(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", ["abcd", "abcxy", "abczyx"])
    length = len(document("xy"))
    for least, kept in ((length, 3), (length + 1, 2)):
        run(tmp_path / str(least), path, c4={}, min_characters=least)
        assert len(left(tmp_path / str(least))) == kept


def test_letter_case_does_not_make_a_span_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = [document("abc"), f"{document('abc').upper()} {document('d')}"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    run(tmp_path / "out", path, c4={})
    assert list(left(tmp_path / "out").values()) == ["abc", "d"]


def test_masked_sentences_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = [f"Write to {name}@example.org today. {document('abx'[: 2 + number])}" for number, name in enumerate("pq")]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = CleanConfig.model_validate({"rules": {"c4": PLAIN, "personal_data": {}}})
    sources, split = [SourceConfig(path=str(path))], SplitConfig(validation=0, test=0)
    ingest(sources, config, split, 0, tmp_path / "out", tmp_path / "downloads")
    assert [d.sentences for d in Corpus(tmp_path / "out").documents][1] == [sentence("x")]


# -- processes, and new files -----------------------------------------------------------------------------------------


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 3000)
    monkeypatch.setattr(module, "SERIAL_BYTES", 0)


def drawn(seed: int, count: int) -> Texts:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("abcdefgh"), random.integers(1, 12))) for _ in range(count)]


def test_processes_give_the_same_bytes(tmp_path: Path, small_units: None) -> None:
    paths = [write(tmp_path, f"{number}.jsonl", drawn(number, 60)) for number in range(3)]
    summaries = [
        run(tmp_path / name, *paths, workers=workers, c4={}, min_characters=60)
        for name, workers in (("one", HERE), ("two", Workers(2)))
    ]
    assert contents(tmp_path / "one") == contents(tmp_path / "two") and summaries[0] == summaries[1]
    assert len(list((tmp_path / "one" / "train").iterdir())) > 5
    assert summaries[0]["rules"][SENTENCE] > 100 and summaries[0]["reasons"][TOO_LITTLE] > 5


@pytest.mark.parametrize("name", ["0.jsonl", "5.jsonl"])
def test_new_files_give_what_all_at_once_give(tmp_path: Path, small_units: None, name: str) -> None:
    """A file that comes first takes the spans of later ones, whose units are not read again."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(1, 4):
        write(folder, f"{number}.jsonl", drawn(number, 30))
    run(tmp_path / "before", folder, downloads=tmp_path / "downloads", c4={})
    units = {path.name for path in (tmp_path / "downloads" / "units").iterdir()}
    before = left(tmp_path / "before")
    write(folder, name, drawn(2, 30) + drawn(9, 10))
    summary = run(tmp_path / "after", folder, downloads=tmp_path / "downloads", c4={})
    assert units & {path.name for path in (tmp_path / "downloads" / "units").iterdir()}
    shutil.rmtree(tmp_path / "downloads")
    assert run(tmp_path / "fresh", folder, downloads=tmp_path / "downloads", c4={}) == summary
    assert contents(tmp_path / "after") == contents(tmp_path / "fresh")
    after = left(tmp_path / "after")
    unchanged = [document for document in before if after.get(document) == before[document]]
    assert (len(unchanged) == len(before)) == (name == "5.jsonl")


# -- its pieces -------------------------------------------------------------------------------------------------------


@given(texts=st.lists(st.text("ab", max_size=8)), n=st.integers(1, 4))
def test_keys_are_equal_where_spans_are(texts: Texts, n: int) -> None:
    keys = span_keys([list(text) for text in texts], n)
    spans = [text[place : place + n] for text in texts for place in range(len(text))]
    assert len(keys) == len(spans)
    known: dict[str, tuple[int, ...]] = {}
    for key, span in zip(map(tuple, keys.tolist()), spans, strict=True):
        assert (key == (0, 0)) == (len(span) < n)
        if len(span) == n:
            assert known.setdefault(span, key) == key
    assert len(set(known.values())) == len(known)


def test_keys_are_the_same_everywhere() -> None:
    keys = span_keys([["A first one.", "A second one.", "Einen dritten für Ä."]], 3)
    assert keys.tolist() == [[14900462514020510536, 11254090258658399054], [0, 0], [0, 0]]


@given(lists=st.lists(st.lists(st.text(max_size=3), max_size=4)), seed=st.integers(0, 99))
def test_marked_sentences_alone_are_taken_out(lists: list[Texts], seed: int) -> None:
    marked = np.random.default_rng(seed).random(sum(map(len, lists))) < 0.4
    column = pa.array(lists, pa.list_(pa.string()))
    marks = iter(marked.tolist())
    expected = [[text for text in inner if not next(marks)] for inner in lists]
    remaining = without_marked(column, marked)
    assert remaining.to_pylist() == expected and remaining.type == column.type


def test_spans_are_compared_in_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large a unit is, no more of it is in memory than a stretch."""
    sizes: list[int] = []
    keys = rules_spans._keys

    def watched(*places: Any) -> Iterator[np.ndarray]:
        for array in keys(*places):
            sizes.append(len(array))
            yield array

    monkeypatch.setattr(rules_spans, "_keys", watched)
    monkeypatch.setattr(rules_spans, "_AT_ONCE", 50)
    texts = drawn(0, 500)
    run(tmp_path / "out", write(tmp_path, "a.jsonl", texts), c4={})
    assert sum(sizes) == sum(map(len, texts)) and 30 < max(sizes) <= 50
