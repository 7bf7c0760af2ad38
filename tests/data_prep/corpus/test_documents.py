from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep import ingest as module
from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig, assign_splits
from data_prep.errors import UserError
from data_prep.findings import Known
from data_prep.kinds import kind_of
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.kind import TextData
from tests.data_prep.conftest import speech
from tests.data_prep.ingesting import ingest


def run(
    tmp_path: Path,
    *paths: Path,
    clean: dict[str, Any] | None = None,
    split: SplitConfig | None = None,
    seed: int = 0,
    out: str = "out",
    **source: Any,
) -> tuple[dict[str, Any], Path]:
    sources = [SourceConfig(path=str(path), **source) for path in paths]
    folder = tmp_path / out
    cleaning: dict[str, Any] = {"max_rejects": 1.0, **(clean or {})}
    config = CleanConfig(**cleaning)
    summary = ingest(sources, config, split or SplitConfig(), seed, folder, tmp_path / "downloads")
    return summary, folder


def write_texts(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}.txt").write_text(speech(number))
    return folder


def rejects(folder: Path) -> list[dict[str, Any]]:
    with pa.memory_map(str(folder / "rejects.arrow")) as source:
        return pa.ipc.open_file(source).read_all().to_pylist()


# ------------------------------------------------------------------ what is kept


def test_documents_are_cleaned_split_and_keep_their_meta(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": "Mr. X\u00a0 left.\r\n\r\nA  heading", "id": "é", "year": 1893, "who": "É"},
        {"text": "Second.", "id": "b"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = SplitConfig(validation=0, test=0)
    summary, folder = run(tmp_path, path, id_field="id", split=split)
    corpus = Corpus(folder)
    assert len(corpus) == 2
    assert corpus.names == ["é", "b"]
    assert corpus.meta == [{"who": "É", "year": 1893}, {}]
    assert corpus.table["meta"].to_pylist() == ['{"who": "É", "year": 1893}', "{}"]
    first = corpus[0]
    assert (first.name, first.source) == ("é", "a.jsonl")
    assert first.sentences == ["Mr. X left.", "A heading"] and first.paragraphs == [0, 1]
    assert list(corpus.documents) == [first, corpus[1]]
    assert list(corpus.sentences()) == ["Mr. X left.", "A heading", "Second."]
    assert summary["splits"] == {
        "train": {"documents": 2, "sentences": 3, "characters": 27},
        "validation": {"documents": 0, "sentences": 0, "characters": 0},
        "test": {"documents": 0, "sentences": 0, "characters": 0},
    }
    assert list(Corpus(folder, "test").documents) == []


def test_code_keeps_its_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("def f():\n    return  1\n\nf()\n")
    _, folder = run(tmp_path, tmp_path / "a.txt", clean={"keep_lines": True})
    document = Corpus(folder)[0]
    assert document.sentences == ["def f():", "    return  1", "f()"] and document.paragraphs == [0, 0, 1]
    (counts, sentences, paragraphs), *_ = Corpus(folder).batches()
    assert (counts.tolist(), len(sentences), paragraphs.tolist()) == ([3], 3, [0, 0, 1])


def test_chinese(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天下雨。我们在家。\n你呢？", encoding="utf-8")
    _, folder = run(tmp_path, tmp_path / "a.txt", clean={"language": "zh"})
    assert Corpus(folder)[0].sentences == ["今天下雨。", "我们在家。", "你呢？"]


def test_output_is_a_function_of_the_input(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 30)
    _, first = run(tmp_path, texts, out="first")
    _, second = run(tmp_path, texts, out="second")
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*.*"))
    splits = ["test/00000.arrow", "train/00000.arrow", "validation/00000.arrow"]
    assert names == ["corpus.json", "rejects.arrow", *splits]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_batches_are_bounded_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = write_texts(tmp_path / "texts", 30)
    _, whole = run(tmp_path, texts, out="one")
    monkeypatch.setattr("data_prep.corpus.row_writer._BATCH_ROWS", 4)
    shutil.rmtree(tmp_path / "downloads")  # what was read is not read again
    _, batched = run(tmp_path, texts, out="many")
    assert len(Corpus(batched).table.to_batches()) == 8
    for split in SPLITS:
        assert Corpus(whole, split).table.equals(Corpus(batched, split).table)
        assert list(Corpus(whole, split).documents) == list(Corpus(batched, split).documents)


def test_progress(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"Text {i}."}) + "\n" for i in range(250)))
    seen: list[tuple[str, float | None]] = []
    config = SourceConfig(path=str(path))
    ingest([config], CleanConfig(), SplitConfig(), 0, tmp_path / "out", tmp_path, lambda *report: seen.append(report))
    assert seen[0][0].startswith("250 documents read, 0.0 MB, ") and seen[0][1] == 1
    assert [message for message, _ in seen[1:]] == ["looking for duplicates", "splitting", "writing"]


# ------------------------------------------------------------------ what is rejected


def test_every_row_is_kept_or_rejected(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", 5)
    (folder / "bad.txt").write_bytes(b"caf\xe9")
    (folder / "copy.txt").write_text("\n " + speech(2).replace(" ", "  ") + "\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "gone.jsonl.gz").write_bytes(gzip.compress(b'{"text": "Lost."}\n')[:-3])
    (folder / "rows.jsonl").write_bytes(
        b'{"text": "A good one."}\n{"text": \n\n{"title": "x"}\n{"text": "\\u0000 "}\n{"text": "No."}\n'
    )
    summary, out = run(tmp_path, folder, clean={"min_characters": 4})
    rejected = [(row["source"], row["position"], row["reason"]) for row in rejects(out)]
    assert rejected == [
        ("texts/bad.txt", 1, "not UTF-8: byte 0xe9 at offset 3; set the encoding of its source, such as cp1252"),
        ("texts/copy.txt", 1, "duplicate of texts/002.txt"),
        ("texts/empty.txt", 1, "empty file"),
        (
            "texts/gone.jsonl.gz",
            2,
            "damaged gzip file: it is cut short",
        ),
        ("texts/rows.jsonl", 2, "not JSON: Expecting value at character 11"),
        ("texts/rows.jsonl", 4, "no field 'text'; found 'title'"),
        ("texts/rows.jsonl", 5, "shorter than 4 characters"),
        ("texts/rows.jsonl", 6, "shorter than 4 characters"),
    ]
    assert all(set(row) == {"source", "position", "reason", "excerpt"} for row in rejects(out))
    assert (summary["rows"], summary["kept"], summary["rejected"]) == (15, 7, 8)
    assert summary["duplicates"] == 1
    assert summary["reasons"]["shorter than 4 characters"] == 2
    assert sum(split["documents"] for split in summary["splits"].values()) == summary["kept"]
    assert sum(map(len, (Corpus(out, split) for split in SPLITS))) == summary["kept"]


def test_duplicates_may_stay_and_names_may_not_repeat(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [("a", "Same."), ("b", "Same."), ("a", "Other.")]
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in rows))
    _, folder = run(tmp_path, path, clean={"drop_duplicates": False}, id_field="id")
    assert Corpus(folder).names == ["a", "b"]
    assert [row["reason"] for row in rejects(folder)] == ["the name 'a' is taken by a document of a.jsonl"]


def test_duplicates_are_found_across_sources(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text("The same text.")
    summary, folder = run(tmp_path, tmp_path / "x", tmp_path / "y")
    assert Corpus(folder).names == ["x/x.txt"]
    assert [row["reason"] for row in rejects(folder)] == ["duplicate of x/x.txt"]
    assert len(summary["licences"]) == 2


def bad_rows(tmp_path: Path, good: int, bad: int, copies: int = 0) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"text": f"Text {number}."}) for number in range(good)]
    path.write_text("\n".join([*rows, *["{"] * bad, *rows[:1] * copies, ""]))
    return path


@pytest.mark.parametrize(
    ("limit", "bad", "fails"),
    [(2, 2, False), (2, 3, True), (0, 1, True), (0.1, 10, False), (0.1, 11, True)],
)
def test_max_rejects(tmp_path: Path, limit: float, bad: int, fails: bool) -> None:
    path = bad_rows(tmp_path, 100 - bad, bad)
    if not fails:
        summary, _ = run(tmp_path, path, clean={"max_rejects": limit})
        assert summary["rejected"] == bad
        return
    with pytest.raises(UserError) as caught:
        run(tmp_path, path, clean={"max_rejects": limit})
    message = str(caught.value)
    assert f"{bad} of 100 rows cannot be used, more than max_rejects: {limit} allows" in message
    assert f"rows.jsonl line {101 - bad}: not JSON: Expecting property name" in message
    assert message.count("not JSON") == min(3, bad)
    assert list((tmp_path / "out").iterdir()) == []


def test_duplicates_are_not_bad_rows(tmp_path: Path) -> None:
    path = bad_rows(tmp_path, 5, 0, copies=50)
    summary, _ = run(tmp_path, path, clean={"max_rejects": 0})
    assert (summary["rejected"], summary["duplicates"]) == (50, 50)
    assert summary["reasons"] == {"duplicate": 50}


def test_nothing_left(tmp_path: Path) -> None:
    path = bad_rows(tmp_path, 0, 2)
    with pytest.raises(UserError, match=r"no document is left of .*rows\.jsonl \(rows.jsonl line 1"):
        run(tmp_path, path)


# ------------------------------------------------------------------ splits

NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=40, unique=True)
SHARES = st.sampled_from([(0.0, 0.0), (0.1, 0.1), (0.05, 0.3), (0.5, 0.45), (0.0, 0.9)])


@given(names=NAMES, shares=SHARES, seed=st.integers(0, 5), data=st.data())
def test_splits_have_exact_counts_whatever_the_order(
    names: list[str], shares: tuple[float, float], seed: int, data: st.DataObject
) -> None:
    split = SplitConfig(validation=shares[0], test=shares[1])
    assigned = assign_splits(names, split, seed)
    shuffled = data.draw(st.permutations(names))
    assert assign_splits(shuffled, split, seed) == assigned
    assert sorted(assigned) == sorted(names)
    counts = [list(assigned.values()).count(name) for name in SPLITS]
    assert counts[0] >= 1
    expected = [0 if share == 0 or len(names) < 3 else max(1, round(share * len(names))) for share in shares]
    if sum(expected) < len(names):
        assert counts[1:] == expected
    else:
        assert counts[0] == 1


def test_split_golden() -> None:
    names = [f"speech-{number}" for number in range(20)]
    assigned = assign_splits(names, SplitConfig(validation=0.1, test=0.1), 0)
    held = {split: [n for n, s in assigned.items() if s == split] for split in SPLITS[1:]}
    assert held == {
        "validation": ["speech-17", "speech-3"],
        "test": ["speech-4", "speech-16"],
    }


def test_another_seed_holds_out_others() -> None:
    names = [f"{number}" for number in range(200)]
    split = SplitConfig(validation=0.1, test=0.1)
    first, second = (assign_splits(names, split, seed) for seed in (0, 1))
    same = sum(first[name] == second[name] == "test" for name in names)
    assert same < 10  # 2 expected


def test_a_new_document_moves_few_others() -> None:
    names = [f"{number}" for number in range(200)]
    split = SplitConfig(validation=0.1, test=0.1)
    before = assign_splits(names, split, 0)
    after = assign_splits([*names, "new"], split, 0)
    assert sum(before[name] != after[name] for name in names) <= 2


def test_split_by_document_is_disjoint_and_independent_of_files(tmp_path: Path) -> None:
    """The same documents in one file or another order are split alike."""
    rows = [{"id": f"d{i}", "text": speech(i)} for i in range(40)]
    names = []
    for name, order in (("a.jsonl", rows), ("b.jsonl", rows[::-1])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in order))
        split = SplitConfig(validation=0.1, test=0.2)
        _, folder = run(tmp_path, tmp_path / name, out=f"{name}-out", id_field="id", split=split)
        names.append({split: sorted(Corpus(folder, split).names) for split in SPLITS})
    assert names[0] == names[1]
    assert [len(names[0][split]) for split in SPLITS] == [28, 4, 8]
    assert len(set().union(*names[0].values())) == 40


def test_split_config() -> None:
    with pytest.raises(ValidationError, match="together must be less than 1"):
        SplitConfig(validation=0.5, test=0.5)
    with pytest.raises(ValidationError, match="validation"):
        SplitConfig(validation=-0.1)


# ------------------------------------------------------------------ reading


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.json is not a corpus"):
        Corpus(tmp_path)
    with pytest.raises(UserError, match="no split 'dev'; it has train, validation, test"):
        Corpus(tmp_path, "dev")
    (tmp_path / "corpus.json").write_bytes(b"not JSON at all")
    with pytest.raises(UserError, match="ingest it again"):
        Corpus(tmp_path)


def test_how_files_are_written_is_told_once_for_all_of_them(tmp_path: Path) -> None:
    files = tmp_path / "in"
    files.mkdir()
    for number in range(3):
        rows = "".join(f"{row};row {number} {row};x\n" for row in range(5))
        (files / f"{number}.csv").write_text(f"id;text;id\n{rows}")
    data = TextData(kind="text", sources=[SourceConfig(path=str(files))])
    summary = module.ingest(kind_of("text"), data, 0, tmp_path / "out", tmp_path / "downloads")
    notes = [
        "in/0.csv and 2 more files: its columns are parted by ';'",
        "in/0.csv and 2 more files: one more column called 'id' is called 'id (2)'",
    ]
    assert (summary["kept"], summary["notes"]) == (15, notes)
    known = Known(data=data, train=None, corruption=None, corpus=summary)
    assert [finding.text for finding in kind_of("text").findings(known)][-2:] == notes
