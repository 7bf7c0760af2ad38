"""Lexicons: the longest phrase from left to right as a naive matcher finds it, in any spelling of a tokenizer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards.rows import offsets_of
from data_prep.tokens.corpus import TokenCorpus, WordStarts
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.lexicon import Lexicon, build, read
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train

IDS = 6  # in the vocabulary of the made-up corpora; the last two are punctuation
PUNCTUATION = np.arange(IDS) >= 4
TEXT = [
    "He reads the New York Times in New York.",
    "He lives in (New York), York or newer York; she, in New Yorkshire.",
    "北京大学在北京。",
]


@st.composite
def corpora(draw) -> TokenCorpus:
    documents = draw(st.lists(st.lists(st.integers(1, 8), max_size=3), min_size=1, max_size=3))
    sentences = offsets_of([length for document in documents for length in document])
    total = int(sentences[-1])
    tokens = draw(st.lists(st.integers(0, IDS - 1), min_size=total, max_size=total))
    words = np.array(draw(st.lists(st.booleans(), min_size=total, max_size=total)), bool)
    words[sentences[:-1]] = True
    return TokenCorpus(np.array(tokens, np.uint16), words, sentences, offsets_of([len(each) for each in documents]))


PHRASES = st.lists(st.lists(st.integers(0, IDS - 1), min_size=1, max_size=5), min_size=1, max_size=8)


def naive(corpus: TokenCorpus, phrases: list[list[int]]) -> tuple[list[bool], int]:
    """Every run of words of every sentence, with every way to leave punctuation out at its ends."""
    begins, matched = [False] * len(corpus.tokens), 0
    for start, stop in pairwise(corpus.sentence_offsets.tolist()):
        bounds = [*(place for place in range(start, stop) if corpus.word_start[place]), stop]
        number = 0
        while number < len(bounds) - 1:
            ends = [
                last
                for last in range(number + 1, len(bounds))
                if any(phrase in inner(corpus, bounds, number, last) for phrase in phrases)
            ]
            begins[bounds[number]] = True
            matched += max(ends, default=number) - number
            number = max(ends, default=number + 1)
    return begins, matched


def inner(corpus: TokenCorpus, bounds: list[int], first: int, end: int) -> list[list[int]]:
    """What words first … end-1 are compared as."""
    tokens = corpus.tokens.tolist()
    lefts = [bounds[first]]
    while lefts[-1] + 1 < bounds[first + 1] and PUNCTUATION[tokens[lefts[-1]]]:
        lefts.append(lefts[-1] + 1)
    rights = [bounds[end]]
    while rights[-1] - 1 > bounds[end - 1] and PUNCTUATION[tokens[rights[-1] - 1]]:
        rights.append(rights[-1] - 1)
    return [tokens[left:right] for left in lefts for right in rights if left < right]


BRACKETED = TokenCorpus(np.array([4, 0, 1]), np.array([True, False, True]), np.array([0, 3]), np.array([0, 1]))


@settings(deadline=None, max_examples=200)
@example(BRACKETED, [[4, 0], [0, 1]])  # the longer one begins after punctuation
@given(corpora(), PHRASES)
def test_it_is_the_naive_matcher(corpus, phrases):
    begins, matched = Lexicon.of(phrases, PUNCTUATION).units(corpus, range(len(corpus)))
    assert (begins.tolist(), matched) == naive(corpus, phrases)


@settings(deadline=None)
@given(corpora(), PHRASES, st.integers(0, 3))
def test_units_are_whole_words_whatever_documents_are_read_together(corpus, phrases, cut):
    lexicon = Lexicon.of(phrases, PUNCTUATION)
    begins, matched = lexicon.units(corpus, range(len(corpus)))
    assert not (begins & ~corpus.word_start).any() and begins[corpus.sentence_offsets[:-1]].all()
    cut = min(cut, len(corpus))
    parts = [lexicon.units(corpus, documents) for documents in (range(cut), range(cut, len(corpus)))]
    assert np.array_equal(np.concatenate([part for part, _ in parts]), begins)
    assert sum(number for _, number in parts) == matched


def test_a_trie_is_its_edges():
    lexicon = Lexicon.of([[1, 2], [1], [3, 0, 1], [1, 2]], PUNCTUATION)
    assert lexicon.edges.tolist() == [1, 3, 1 * 6 + 2, 2 * 6 + 0, 4 * 6 + 1]
    assert lexicon.completes.tolist() == [False, True, False, True, False, True]


# -- tokenizers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    sizes: dict[Any, int] = {"wordpiece": 160, "byte-bpe": 300, "character": 100}
    for kind, vocabulary in sizes.items():
        folders[kind] = tmp_path_factory.mktemp(kind)
        train(TokenizerConfig(kind=kind, vocabulary=vocabulary), TEXT * 20, folders[kind])
    return folders


def units(folder: Path, lines: list[str], *sentences: str) -> list[str]:
    """The text of each unit of a document."""
    tokenizer, special = load(folder), specials(folder)
    ids = Encoder(tokenizer).encode(pa.array(sentences))
    starts = WordStarts(tokenizer)(ids.values, ids.offsets)
    corpus = TokenCorpus(ids.values, starts, ids.offsets, np.array([0, len(sentences)]))
    begins, _ = build(lines, tokenizer, special)[0].units(corpus, range(1))
    texts = Pieces(tokenizer, special).texts(ids.values.tolist())
    bounds = [*np.flatnonzero(begins).tolist(), len(texts)]
    return ["".join(texts[start:stop]).strip() for start, stop in pairwise(bounds)]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
def test_the_longest_phrase_from_the_left(tokenizers, kind):
    units_of_text = units(tokenizers[kind], ["New York", "New York Times", "York Times in", "he reads"], TEXT[0])
    end = ["New York."] if kind == "byte-bpe" else ["New York", "."]
    assert units_of_text == ["He", "reads", "the", "New York Times", "in", *end]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
def test_a_phrase_is_whole_words_and_punctuation_beside_them_is_ignored(tokenizers, kind):
    units_of_text = units(tokenizers[kind], ["New York", "in New York", "she in", "newer"], TEXT[1])
    if kind == "byte-bpe":  # its words have their punctuation
        middle = ["(New York),", "York", "or", "newer", "York;", "she,", "in", "New", "Yorkshire."]
    else:
        middle = ["(", "New York", ")", ",", "York", "or", "newer", "York", ";", "she", ",", "in"]
        middle += ["New", "Yorkshire", "."]
    assert units_of_text == ["He", "lives", "in", *middle]


@pytest.mark.parametrize("kind", ["wordpiece", "character"])
def test_characters_of_chinese_are_words(tokenizers, kind):
    assert units(tokenizers[kind], ["北京", "北京大学"], TEXT[2]) == ["北京大学", "在", "北京", "。"]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
def test_a_phrase_does_not_reach_into_the_next_sentence(tokenizers, kind):
    assert units(tokenizers[kind], ["New York"], "He lives in New", "York") == ["He", "lives", "in", "New", "York"]
    assert units(tokenizers[kind], ["New York"], "New York", "in New York") == ["New York", "in", "New York"]


def test_an_uncased_tokenizer_ignores_case(tmp_path):
    train(TokenizerConfig(vocabulary=160, lowercase=True), TEXT * 20, tmp_path)
    assert units(tmp_path, ["NEW YORK"], TEXT[0])[-3:] == ["in", "new york", "."]


def test_what_becomes_of_lines_is_counted(tokenizers):
    tokenizer, special = load(tokenizers["wordpiece"]), specials(tokenizers["wordpiece"])
    lines = ["New York", "", "New  York", "Zürich", "[MASK]", "she"]
    _, counts = build(lines, tokenizer, special)
    assert counts == {
        "lines": 6,
        "phrases": 2,
        "blank": 1,
        "duplicates": 1,
        "unspellable": 2,
        "first_unspellable": "Zürich",
    }
    with pytest.raises(UserError, match=r"compose\.lexicon: the tokenizer can spell none of its phrases, such as 'Zür"):
        build(["Zürich", ""], tokenizer, special)


# -- files ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@example("\ufeffNew York\r\n  Paris \n\n")
@given(st.text("ab \n\x0c"))
def test_a_file_is_its_lines_and_its_digest(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "phrases.txt"
    path.write_text(text, encoding="utf-8", newline="")
    if not text.strip():
        with pytest.raises(UserError, match=r"compose\.lexicon: .*phrases\.txt has no phrase; write one a line"):
            read(path)
        return
    assert read(path).lines == [line.strip() for line in text.removeprefix("\ufeff").removesuffix("\n").split("\n")]
    other = path.with_name("other.txt")
    other.write_bytes(path.read_bytes())
    assert read(other) == read(path)
    other.write_bytes(path.read_bytes() + b"c")
    assert read(other).digest != read(path).digest


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"\xff\xfe", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, why):
    path = tmp_path / "phrases.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"compose\.lexicon: .*phrases\.txt cannot be read \({why}"):
        read(path)
