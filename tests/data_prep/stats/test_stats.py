"""What is counted is what a person counts by hand; how the data lie in files does not show."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpus.documents import Corpus, SplitConfig
from data_prep.corruptions import build, config_of
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows, ragged
from data_prep.shards.writer import ShardWriter
from data_prep.sources.config import SourceConfig
from data_prep.stats import corpus as stats_corpus
from data_prep.stats import stats
from data_prep.stats.counts import Binned, evenly
from data_prep.stats.rows import of_rows
from data_prep.stats.vocabulary import Vocabulary
from data_prep.text.clean import CleanConfig
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import tokenise
from data_prep.tokens.packing import pack
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from tests.data_prep.conftest import speech
from tests.data_prep.corruptions.test_table import CASES, TEXT
from tests.data_prep.ingesting import ingest

CHARACTERS = "aab bc\n"  # of which a tokenizer is made: [PAD] 0 … [MASK] 4, space 5, line end 6, a 7, b 8, c 9
PAD, UNK, CLS, SEP, MASK, SPACE, LINE, A, B, C = range(10)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters")
    train(TokenizerConfig(kind="character", vocabulary=16), [CHARACTERS], folder)
    assert load(folder).encode("abc d").ids == [CLS, A, B, C, SPACE, UNK, SEP]
    return folder


def known(folder: Path) -> Vocabulary:
    return Vocabulary(load(folder), specials(folder))


def written(folder: Path, *parts: Rows, rows_per_shard: int = 1000, **how: Any) -> Shards:
    writer = ShardWriter(folder, rows_per_shard, **how)
    for part in parts:
        writer.write(part)
    writer.close()
    return Shards(folder)


def rows_of(*texts: list[int]) -> Rows:
    return {"input": Ragged.from_rows([[CLS, *text, SEP] for text in texts], np.uint16)}


# -- rows -------------------------------------------------------------------------------------------------------------


def test_tokens_and_rows_counted_by_hand(letters: Path, tmp_path: Path) -> None:
    rows = rows_of([A, A, B], [A, SPACE, B], [A, A, UNK, A, A, A])
    statistics = of_rows(written(tmp_path, rows), known(letters), 10)
    assert (statistics["rows"], statistics["tokens"], statistics["read"]) == (3, 18, {"share": 1.0, "items": 18})
    assert statistics["padding_share"] == round(12 / 30, 6)
    assert (statistics["sequences"], statistics["sequences_per_row"], statistics["sequences_of_rows"]) == (
        3,
        1.0,
        {"1": 3},
    )
    long = statistics["row_lengths"]
    assert [long[name] for name in ("count", "total", "mean", "least", "median", "most")] == [3, 18, 6.0, 5, 5, 8]
    assert {edge: n for edge, n in zip(long["edges"], long["counts"], strict=False) if n} == {5: 2, 8: 1}
    words = statistics["vocabulary"]
    assert (words["text"], words["special"], words["unknown"]) == (12, 6, 1)
    assert words["unk_share"] == pytest.approx(1 / 12)
    assert (words["pieces"], words["occurring"], words["coverage"]) == (5, 3, 0.6)  # of space, line end, a, b, c
    assert [(entry["id"], entry["count"]) for entry in words["frequent"]] == [(A, 8), (B, 2), (SPACE, 1)]
    assert words["frequent"][2]["piece"] == "␣" and words["frequent"][0]["share"] == pytest.approx(8 / 12)
    assert words["cover"] == {"50": 1, "90": 2, "99": 3}  # 8, 10 and 11 of 11
    assert words["unseen_pieces"] == ["↵", "c"] and words["unseen"] == 2
    assert (words["ranks"], words["counts"]) == ([1, 2, 3], [8, 2, 1])
    assert words["occurrences"] == {"edges": [0, 1, 10], "counts": [2, 3]}
    shares = np.array([8, 2, 1]) / 11
    assert words["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-4)


def test_padding_that_is_stored_is_padding(letters: Path, tmp_path: Path) -> None:
    statistics = of_rows(written(tmp_path, rows_of([A, B, PAD, PAD], [A, A, A, B])), known(letters), None)
    assert (statistics["length"], statistics["padding_share"]) == (6, round(2 / 12, 6))
    assert (statistics["row_lengths"]["least"], statistics["row_lengths"]["most"]) == (4, 6)


def test_packed_rows_hold_several_sequences(letters: Path, tmp_path: Path) -> None:
    rows = rows_of([A] * 8, [B] * 4, [A] * 2, [C], [B] * 7)
    rows |= {"document": np.arange(5, dtype=np.uint32), "label": np.array([0, 1, 1, 0, 1], np.uint8)}
    packed = pack(rows, 10)
    statistics = of_rows(written(tmp_path, packed), known(letters), 10)
    assert statistics["sequences"] == 5 and statistics["rows"] == num_rows(packed) == 4
    assert statistics["sequences_of_rows"] == {"1": 3, "2": 1}
    assert statistics["labels"] == {"0": 2, "1": 3}
    assert statistics["sequences_per_row"] == 5 / 4


@pytest.mark.parametrize("kind", [kind for kind, (of, _) in CASES.items() if of == TEXT])
def test_corrupted_rows_count_as_they_were(kind: str, letters: Path, tmp_path: Path) -> None:
    """Whatever columns a corruption leaves."""
    special = specials(letters)
    roles: dict[str, Any] = {**dict(special.roles), "eos": LINE}
    special = Specials(special.vocabulary, sentinels=range(C, B, -1), **roles)
    rows = rows_of([A, B, B] * 8, [B, B, A] * 8, [A, B])
    lengths = ragged(rows, "input").lengths
    rows |= {"sentence": Ragged.from_lengths(np.zeros(lengths.sum(), np.uint16), lengths)}
    rows |= {"word_start": Ragged.from_lengths(np.ones(lengths.sum(), np.uint8), lengths)}
    corruption = build(config_of({"kind": kind}), special)
    corrupted = corruption(rows, Draws(key(1, "corrupt"), 0, np.arange(3)))
    assert (kind == "none") == ("seen" not in corrupted)
    clean = of_rows(written(tmp_path / "clean", rows), known(letters), 32)
    dark = of_rows(written(tmp_path / "dark", corrupted), known(letters), 32, corruption=corruption)
    assert dark["vocabulary"] == clean["vocabulary"] and dark["row_lengths"] == clean["row_lengths"]
    assert dark["read"]["items"] == clean["read"]["items"] == lengths.sum()


def test_no_row_at_all(letters: Path, tmp_path: Path) -> None:
    statistics = of_rows(written(tmp_path), known(letters), 8)
    assert (statistics["rows"], statistics["padding_share"], statistics["row_lengths"]["count"]) == (0, 0.0, 0)
    assert (
        statistics["vocabulary"]["cover"] == {"50": 0, "90": 0, "99": 0} and statistics["vocabulary"]["coverage"] == 0
    )
    json.dumps(statistics, allow_nan=False)


def test_another_tokenizer_is_a_sentence(letters: Path, tmp_path: Path) -> None:
    shards = written(tmp_path, rows_of([A, 77]))
    with pytest.raises(UserError, match="holds the token 77, but its tokenizer has only 10"):
        of_rows(shards, known(letters), 8)


TEXTS = st.lists(st.lists(st.sampled_from([UNK, SPACE, LINE, A, B, C]), max_size=20), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, batch=st.integers(1, 9), shard=st.integers(1, 30))
def test_totals_add_up_however_rows_lie_in_files(
    letters: Path, tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], batch: int, shard: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("lie"), rows_of(*texts)
    whole = of_rows(written(folder / "whole", rows), known(letters), 22)
    parts = of_rows(written(folder / "parts", rows, rows_per_shard=shard, rows_per_batch=batch), known(letters), 22)
    assert parts == whole
    words, long = whole["vocabulary"], whole["row_lengths"]
    counted = Counter(token for text in texts for token in text)
    assert sum(long["counts"]) == long["count"] == len(texts) == whole["rows"]
    assert long["total"] == words["text"] + words["special"] == whole["tokens"]
    assert words["text"] == counted.total() and words["unknown"] == counted[UNK]
    assert {entry["id"]: entry["count"] for entry in words["frequent"]} == {
        k: n for k, n in counted.items() if k != UNK
    }
    assert sum(words["occurrences"]["counts"]) == words["pieces"] == words["occurring"] + words["unseen"]
    assert long["median"] == sorted(len(text) + 2 for text in texts)[(len(texts) - 1) // 2]
    assert long["edges"] == sorted(set(long["edges"]))


def test_of_many_rows_some_batches_are_read_the_same_ones_every_time(letters: Path, tmp_path: Path) -> None:
    rows = rows_of(*([A] * (10 + n % 7) + [B] * (n % 5) for n in range(1000)))
    shards = written(tmp_path, rows, rows_per_batch=10)
    all_of_them = of_rows(shards, known(letters), 32)
    sampled = of_rows(shards, known(letters), 32, max_tokens=shards.items // 4 + 1)
    assert sampled == of_rows(Shards(tmp_path), known(letters), 32, max_tokens=shards.items // 4 + 1)
    assert sampled["read"]["share"] == 0.25 and sampled["row_lengths"]["count"] == 250
    assert (sampled["rows"], sampled["tokens"]) == (1000, shards.items)
    assert sampled["padding_share"] == pytest.approx(all_of_them["padding_share"], abs=0.01)


@settings(deadline=None)
@given(count=st.integers(0, 500), wanted=st.integers(1, 500))
def test_chosen_numbers_are_spread_evenly(count: int, wanted: int) -> None:
    chosen = evenly(count, wanted, "test")
    assert len(chosen) == min(count, wanted) and chosen == sorted(set(chosen))
    stretch = -(-count // wanted)
    assert all(later - earlier <= 2 * stretch for earlier, later in pairwise(chosen))
    assert all(0 <= number < count for number in chosen)


def test_twenty_million_tokens_take_a_second(letters: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(UNK, C + 1, 1 << 22).astype(np.uint16)
    part: Rows = {"input": Ragged.from_lengths(values, np.full(1 << 15, 128))}
    shards = written(tmp_path, *[part] * 5, rows_per_shard=1 << 20)
    began = time.process_time()
    assert of_rows(shards, known(letters), 128)["read"]["items"] == 5 << 22
    assert time.process_time() - began < 1  # a tenth of that on a quiet machine


# -- documents --------------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two sources: four documents, one of them twice, one row without a text, one line that is no JSON."""
    (tmp_path / "letters").mkdir()
    for number in range(2):
        text = f"My dear friend, I write to you. It is day {number}."
        (tmp_path / "letters" / f"{number}.txt").write_text(text)
    first = {"text": "The ship has sailed. It will not come back! Why not?"}
    lines = [first, {"text": "We wait at the harbour."}, first, {"body": "Nothing."}]
    (tmp_path / "logs.jsonl").write_text("\n".join([*map(json.dumps, lines), '{"text": "cut', ""]))
    sources = [SourceConfig(path=str(tmp_path / name)) for name in ("letters", "logs.jsonl")]
    clean, split = CleanConfig(min_characters=5, max_rejects=5), SplitConfig(validation=0, test=0)
    ingest(sources, clean, split, 0, tmp_path / "corpus", tmp_path / "downloads")
    return tmp_path / "corpus"


def test_documents_counted_by_hand(corpus: Path) -> None:
    statistics = stats.of_corpus(corpus)
    assert list(statistics["splits"]) == ["train"]
    split = statistics["splits"]["train"]
    assert (split["documents"], split["sentences"], split["read"]) == (4, 8, {"share": 1.0, "items": 4})
    sentences = list(Corpus(corpus).sentences())
    assert split["characters"] == sum(map(len, sentences))
    lengths = split["document_lengths"]
    assert (lengths["least"], lengths["most"], lengths["total"]) == (23, 50, split["characters"])
    assert [source["source"] for source in split["sources"]] == ["letters", "logs.jsonl"]
    assert [(source["documents"], source["sentences"]) for source in split["sources"]] == [(2, 4), (2, 4)]
    rejects = statistics["rejects"]
    assert rejects["rows"] == 3 == sum(rejects["reasons"].values())
    assert rejects["reasons"]["duplicate"] == 1 and list(rejects["sources"]) == ["logs.jsonl"]
    assert rejects["sources"]["logs.jsonl"] == rejects["reasons"]
    assert sum("no field 'text'" in reason or "not JSON" in reason for reason in rejects["reasons"]) == 2


def test_reasons_that_name_rows_are_one_reason(make_corpus: Callable[..., Path]) -> None:
    rows: list[dict[str, Any]] = [{"name": f"n{number}", "text": speech(number)} for number in range(6)]
    rows += [{"name": f"copy{number}", "text": speech(number)} for number in range(4)]
    assert stats.of_corpus(make_corpus(rows))["rejects"]["reasons"] == {"duplicate": 4}
    reasons = ["near duplicate of a", "the name 'b' is taken by a document of c", "duplicate of d", "not UTF-8"]
    assert stats_corpus._kinds(pa.array(reasons)).to_pylist() == [
        "near duplicate",
        "name taken",
        "duplicate",
        "not UTF-8",
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=50), st.integers(1, 20))
def test_lengths_of_any_size_add_up(values: list[int], batch: int) -> None:
    whole, parts = Binned(), Binned()
    whole.add(np.array(values, np.int64))
    for start in range(0, len(values), batch):
        parts.add(np.array(values[start : start + batch], np.int64))
    assert parts.lengths() == whole.lengths()
    lengths = whole.lengths()
    assert sum(lengths["counts"]) == lengths["count"] == len(values) and lengths["total"] == sum(values)
    for low, high, count in zip(lengths["edges"], lengths["edges"][1:], lengths["counts"], strict=False):
        assert count == sum(low <= value < high for value in values)
    if values:
        middle = sorted(values)[(len(values) - 1) // 2]
        assert abs(lengths["median"] - middle) <= middle / 4
        assert lengths["least"] <= lengths["median"] <= lengths["most"]


def test_of_a_large_corpus_some_batches_are_read(make_corpus: Callable[..., Path], monkeypatch: Any) -> None:
    folder = make_corpus(
        [{"name": f"n{number}", "text": f"{speech(number, 3)} Number {number}."} for number in range(4000)]
    )
    everything = stats.of_corpus(folder)["splits"]["train"]
    monkeypatch.setattr(stats_corpus.of_documents, "__defaults__", (1 << 18,))
    sampled = stats.of_corpus(folder)["splits"]["train"]
    assert sampled == stats.of_corpus(folder)["splits"]["train"]
    assert sampled["documents"] == everything["documents"] > sampled["read"]["items"] > 0
    assert 0 < sampled["read"]["share"] < 1 and sampled["document_lengths"]["count"] == sampled["read"]["items"]


def test_what_is_no_corpus_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a corpus"):
        stats.of_corpus(tmp_path)


# -- together ---------------------------------------------------------------------------------------------------------


def test_tokens_of_shards_are_those_of_the_corpus(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_corpus([{"name": f"n{number}", "text": speech(number)} for number in range(20)])
    train(TokenizerConfig(vocabulary=200, lowercase=True), Corpus(folder).sentences(), tmp_path / "tokenizer")
    tokens = tokenise(Corpus(folder), load(tmp_path / "tokenizer"))
    for packed in (False, True):
        config = ComposeConfig(kind="packed", length=64, pack=packed)
        rows = compose(tokens, config, specials(tmp_path / "tokenizer"), 0, "a", 0, range(len(tokens))).rows
        written(tmp_path / str(packed), rows)
        folders, lengths = {"train": tmp_path / str(packed)}, {"train": 64}
        statistics = stats.of_shards(folders, tmp_path / "tokenizer", lengths)["splits"]["train"]
        assert statistics["vocabulary"]["text"] == len(tokens.tokens)
        assert statistics["sequences"] == statistics["vocabulary"]["special"] // 2
        assert (statistics["sequences_per_row"] > 1) == packed


# -- vocabularies -----------------------------------------------------------------------------------------------------


def test_kinds_of_pieces(letters: Path) -> None:
    statistics = stats.of_tokenizer(letters)
    assert statistics["vocabulary"] == 10 and statistics["specials"]["mask"] == "[MASK]"
    kinds = {kind["kind"]: kind["examples"] for kind in statistics["kinds"]}
    assert kinds == {"single letters": ["a", "b", "c"], "white space": ["␣", "↵"]}
    assert statistics["scripts"] == {"Latin": 3} and statistics["lengths"]["counts"] == [5]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_words_and_what_is_inside_them(kind: Any, tmp_path: Path) -> None:
    train(TokenizerConfig(kind=kind, vocabulary=500), [speech(n) for n in range(50)], tmp_path)
    statistics = stats.of_tokenizer(tmp_path)
    counts = {pieces["kind"]: pieces["pieces"] for pieces in statistics["kinds"]}
    assert sum(counts.values()) == statistics["vocabulary"] - 5
    assert {"inside words", "words or beginnings", "single letters", "numbers"} <= set(counts)
    assert ("part of a character" in counts) == (kind == "byte-bpe")
    assert sum(statistics["lengths"]["counts"]) == statistics["vocabulary"] - 5 - counts.get("part of a character", 0)
    json.dumps(statistics, allow_nan=False)
