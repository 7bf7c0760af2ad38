"""Composing the column unit: numbers count phrases and words in each sequence; the same in any batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards.rows import Ragged, Rows, Specials, concat, num_rows, offsets_of, ragged
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus

FIRST = 100  # the id of the corpus's first token; the next has the next id
SPECIALS = Specials(10**6, cls=2, sep=3, pad=0, mask=4, unk=1, bos=7, eos=8)
KINDS = ("packed", "nsp", "sop", "raw", "stream")


@st.composite
def corpora(draw) -> TokenCorpus:
    """Two documents or more of sentences, in units of several tokens."""
    lengths = draw(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=2, max_size=5))
    sentences = offsets_of([length for document in lengths for length in document])
    total = int(sentences[-1])
    unit_start = np.array(draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    unit_start[sentences[:-1]] = True
    paragraphs = np.array([not place or draw(st.booleans()) for each in lengths for place in range(len(each))])
    ids, words = np.arange(FIRST, FIRST + total, dtype=np.uint32), np.ones(total, bool)
    return TokenCorpus(ids, words, sentences, offsets_of([len(each) for each in lengths]), paragraphs, unit_start)


def made(corpus: TokenCorpus, documents: range | None = None, **settings) -> Rows:
    config = ComposeConfig(columns=("unit",), lexicon="phrases.txt", **settings)
    documents = range(len(corpus)) if documents is None else documents
    return compose(corpus, config, SPECIALS, 1, "test", 0, documents).rows


def expected(corpus: TokenCorpus, tokens: list[int], sequence: list[int]) -> list[int]:
    """The units of a row, token by token."""
    assert corpus.unit_start is not None
    numbers: list[int] = []
    for place, token in enumerate(tokens):
        if not place or sequence[place] != sequence[place - 1]:
            numbers.append(0)
            continue
        is_text = token >= FIRST and tokens[place - 1] == token - 1 and not corpus.unit_start[token - FIRST]
        numbers.append(numbers[-1] + (not is_text))
    return numbers


@settings(deadline=None, max_examples=150)
@given(
    corpora(),
    st.sampled_from(KINDS),
    st.sampled_from(["cls-sep", "bos-eos", "eos", "none"]),
    st.booleans(),
    st.integers(8, 30),
)
def test_units_are_numbered_in_each_sequence(corpus, kind, frame, pack, length):
    options = {"kind": kind, "length": length, "frame": "cls-sep" if kind in ("nsp", "sop") else frame}
    options |= {} if kind == "stream" else {"pack": pack}
    if options.get("pack") and options["frame"] == "none":
        options["pack"] = False
    rows = made(corpus, **options)
    unit = ragged(rows, "unit")
    assert unit.values.dtype == np.uint8 and np.array_equal(unit.offsets, ragged(rows, "input").offsets)
    for number in range(num_rows(rows)):
        tokens = ragged(rows, "input").row(number).tolist()
        sequence = ragged(rows, "sequence").row(number).tolist() if "sequence" in rows else [0] * len(tokens)
        assert unit.row(number).tolist() == expected(corpus, tokens, sequence)


@settings(deadline=None)
@given(corpora(), st.sampled_from(["packed", "nsp", "sop", "raw"]), st.integers(0, 5))
def test_batches_of_documents_do_not_show(corpus, kind, cut):
    whole = ragged(made(corpus, kind=kind, length=16), "unit")
    batches = [range(min(cut, len(corpus))), range(min(cut, len(corpus)), len(corpus))]
    joined = ragged(concat([made(corpus, batch, kind=kind, length=16) for batch in batches]), "unit")
    assert np.array_equal(joined.values, whole.values) and np.array_equal(joined.offsets, whole.offsets)


def test_a_unit_that_a_row_cuts_is_one_in_each():
    unit_start = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 1], bool)
    ids, words = np.arange(FIRST, FIRST + 10, dtype=np.uint16), np.ones(10, bool)
    corpus = TokenCorpus(ids, words, np.array([0, 10]), np.array([0, 1]), None, unit_start)
    unit = ragged(made(corpus, kind="packed", length=8), "unit")
    assert [unit.row(row).tolist() for row in range(2)] == [[0, 1, 2, 2, 2, 2, 2, 3], [0, 1, 1, 1, 2, 3]]


def test_units_must_be_known():
    corpus = TokenCorpus(np.arange(9, dtype=np.uint16), np.ones(9, bool), np.array([0, 9]), np.array([0, 1]))
    with pytest.raises(ValueError, match="give it unit_start"):
        made(corpus, kind="raw")


@pytest.mark.parametrize("columns", [(), ("unit",), ("sentence", "boundary", "unit")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [False, True])
def test_rows_have_the_columns_that_are_offered(kind, pack, columns):
    if kind == "stream" and pack:
        return
    ids, sentences = np.arange(FIRST, FIRST + 30, dtype=np.uint16), np.arange(0, 31, 5)
    corpus = TokenCorpus(ids, np.ones(30, bool), sentences, np.array([0, 3, 6]), None, np.ones(30, bool))
    lexicon = "phrases.txt" if "unit" in columns else None
    config = ComposeConfig(kind=kind, pack=pack, columns=columns, lexicon=lexicon)
    rows = compose(corpus, config, SPECIALS, 1, "test", 0, range(2)).rows
    assert sorted(rows) == sorted(config.offers)
    assert all(isinstance(rows[name], Ragged) for name in columns)
