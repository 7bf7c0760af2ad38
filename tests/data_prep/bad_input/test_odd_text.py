"""Odd characters: what is text is kept as it is, all the way to shards; what is none is rejected or taken out."""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.corpus.documents import Corpus
from data_prep.shards.reader import Shards
from data_prep.shards.rows import ragged
from data_prep.shards.writer import ShardWriter
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus, tokenise
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from tests.data_prep.bad_input.checks import check, line, rejected, run, texts

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


VALUES = (
    st.text(LETTERS, max_size=8)
    | st.integers(-(1 << 70), 1 << 70)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=60, deadline=None)
@example([{"\ud800": "", "whole \ud83d\ude00": "half \ude00"}])
@given(rows=st.lists(st.dictionaries(st.text(LETTERS, max_size=8), VALUES, max_size=4), min_size=1, max_size=4))
def test_what_stands_beside_a_text_is_kept_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    """Control characters, too, which would mean something else without them; half a surrogate pair, which is no
    Unicode, as the escape that it was written by."""
    folder = tmp_path_factory.mktemp("meta")
    lines = [json.dumps({**row, "text": f"Text {number}."}) for number, row in enumerate([*rows, {}])]
    (folder / "a.jsonl").write_text("\n".join(lines))
    check(folder / "out", run(folder / "a.jsonl", out=folder / "out"))
    assert rejected(folder / "out") == []
    for document, written in zip(Corpus(folder / "out").documents, map(json.loads, lines), strict=True):
        expected = {escaped(key): escaped(value) for key, value in written.items() if key != "text"}
        assert document.meta == expected


def escaped(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def test_numbers_that_json_has_none_of_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "One.", "big": 1e999, "no": NaN, "year": 1790}\n')
    pq.write_table(pa.table({"text": ["Two."], "no": [float("nan")], "year": [1791.5]}), tmp_path / "b.parquet")
    run(tmp_path / "a.jsonl", tmp_path / "b.parquet", out=tmp_path / "out")
    assert Corpus(tmp_path / "out").meta == [{"year": 1790}, {"year": 1791.5}]


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
    kept = ["".join(text.split()) for text in texts(tmp_path / "out")]
    assert kept == ["".join(unicodedata.normalize("NFC", text).split()) for text in ODD.values()]
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
    rows = compose(again, config, special, 0, "odd", 0, range(len(again))).rows
    writer = ShardWriter(tmp_path / "shards", 50, 16)
    writer.write(rows)
    writer.close()
    shards = Shards(tmp_path / "shards")
    stored = shards.read(np.arange(len(shards)))
    assert len(shards) and shards.verify() == [] and set(stored) == set(rows)
    assert np.array_equal(ragged(stored, "input").values, ragged(rows, "input").values)
    assert ragged(stored, "input").values.max() < special.vocabulary
