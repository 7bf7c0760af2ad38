"""Composing: streams, raw rows, other frames than BERT's, optional columns."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus

CLS, SEP = 2, 3
BOS, EOS = 7, 8
ROLES = Specials(10**6, cls=CLS, sep=SEP, pad=0, mask=4, unk=1, bos=BOS, eos=EOS)
FRAMES = {"cls-sep": ([CLS], [SEP]), "bos-eos": ([BOS], [EOS]), "eos": ([], [EOS]), "none": ([], [])}


@st.composite
def texts(draw) -> tuple[list[list[list[int]]], TokenCorpus]:
    """Documents of sentences of tokens, some documents empty, with paragraphs; and the corpus of them."""
    lengths = draw(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=6))
    ids = iter(range(100, 10_000))
    documents = [[[next(ids) for _ in range(size)] for size in sizes] for sizes in lengths]
    sizes = [len(sentence) for document in documents for sentence in document]
    first = [not place for document in documents for place, _ in enumerate(document)]
    more = draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first)))
    tokens = np.array([token for document in documents for sentence in document for token in sentence], np.uint32)
    return documents, TokenCorpus(
        tokens,
        np.ones(len(tokens), bool),
        np.cumsum([0, *sizes]),
        np.cumsum([0, *map(len, documents)]),
        np.array(first, bool) | np.array(more, bool),
    )


def paragraph_starts(corpus: TokenCorpus) -> set[int]:
    """Tokens that begin a paragraph."""
    assert corpus.paragraph_start is not None
    return set(corpus.tokens[corpus.sentence_offsets[:-1][corpus.paragraph_start]].tolist())


def made(corpus: TokenCorpus, **config) -> dict[str, Any]:
    return compose(corpus, ComposeConfig(**config), ROLES, 0, "", 0, range(len(corpus))).rows


def runs(rows: Rows, name: str = "input") -> list[list[int]]:
    column = rows[name]
    assert isinstance(column, Ragged)
    return [column.row(row).tolist() for row in range(len(column))]


@settings(max_examples=60)
@given(texts(), st.sampled_from(list(FRAMES)), st.integers(8, 24))
def test_a_stream_is_its_documents_cut_into_full_rows(given_, frame, length):
    documents, corpus = given_
    front, back = FRAMES[frame]
    flat = [(token, number) for number, document in enumerate(documents) if document
            for token in [*front, *chain(*document), *back]]  # fmt: skip
    rows = made(corpus, kind="stream", length=length, frame=frame)
    expected = [flat[start : start + length] for start in range(0, len(flat), length)]
    assert runs(rows) == [[token for token, _ in row] for row in expected]
    for row, (sequence, document) in enumerate(zip(runs(rows, "sequence"), runs(rows, "document"), strict=True)):
        assert [document[place] for place in sequence] == [number for _, number in expected[row]]
        assert sorted(set(sequence)) == list(range(len(document)))
    assert rows["sequence"].values.dtype == np.uint8 and rows["document"].values.dtype == np.uint32


@settings(max_examples=60)
@given(texts(), st.sampled_from(list(FRAMES)), st.sampled_from(["document", "sentence"]), st.integers(8, 16))
def test_raw_rows_are_documents_or_sentences_that_go_on_in_further_rows(given_, frame, per, length):
    documents, corpus = given_
    front, back = FRAMES[frame]
    room = length - len(front) - len(back)
    parts = [(number, sentence) for number, document in enumerate(documents) for sentence in document]
    if per == "document":
        parts = [(number, list(chain(*document))) for number, document in enumerate(documents) if document]
    parts = [(number, part[at : at + room]) for number, part in parts for at in range(0, len(part), room)]
    rows = made(corpus, kind="raw", length=length, frame=frame, per=per)
    assert runs(rows) == [[*front, *part, *back] for _, part in parts]
    assert rows["document"].tolist() == [number for number, _ in parts]


@settings(max_examples=60)
@given(texts(), st.sampled_from(list(FRAMES)), st.booleans())
def test_packed_rows_have_any_frame(given_, frame, pack):
    _, corpus = given_
    front, back = FRAMES[frame]
    config = {"kind": "packed", "length": 12, "frame": frame, "columns": ("sentence", "boundary")}
    usual = made(corpus, **{**config, "length": 12 + 2 - len(front) - len(back), "frame": "cls-sep"})
    rows = made(corpus, **config)
    assert runs(rows) == [[*front, *row[1:-1], *back] for row in runs(usual)]
    begins = paragraph_starts(corpus)
    assert runs(rows, "boundary") == [[int(token in begins) for token in row] for row in runs(rows)]
    for row, sentence in zip(runs(rows), runs(rows, "sentence"), strict=True):
        text = [place for place, token in enumerate(row) if token >= 100]
        places = np.searchsorted(corpus.tokens, [row[place] for place in text])
        starts = np.searchsorted(corpus.sentence_offsets, places, "right")
        assert [sentence[place] for place in text] == (starts - starts[0]).tolist()
        assert sentence == sorted(sentence)
    if pack:
        together = made(corpus, **config, pack=True)
        assert sorted(chain(*runs(together))) == sorted(chain(*runs(rows)))


def test_pairs_count_their_sentences():
    corpus = TokenCorpus(
        np.arange(100, 112, dtype=np.uint16), np.ones(12, bool), np.arange(0, 13, 2), np.array([0, 6]), None
    )
    rows = made(corpus, kind="sop", length=64, columns=("sentence", "boundary"), short_probability=0)
    (row,), (sentence,), (boundary,) = runs(rows), runs(rows, "sentence"), runs(rows, "boundary")
    assert sorted(row)[3:] == list(range(100, 112)) and sum(boundary) == 1
    assert boundary[row.index(100)] == 1
    middle = row.index(SEP)
    expected = [0, *np.arange(middle - 1) // 2]
    expected += [expected[-1], *(expected[-1] + 1 + np.arange(len(row) - middle - 2) // 2)]
    assert sentence == [*expected, expected[-1]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "nsp", "frame": "eos"}, "must be cls-sep, not eos"),
        ({"kind": "stream", "pack": True}, "leave pack out"),
        ({"kind": "packed", "per": "sentence"}, "'per' belongs to kind raw"),
        ({"kind": "packed", "columns": ["word"]}, "columns"),
        ({"kind": "packed", "columns": ["unit"]}, "the column unit needs a lexicon"),
        ({"kind": "packed", "lexicon": "phrases.txt"}, "'lexicon' belongs to the column unit"),
    ],
)
def test_compositions_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ComposeConfig(**wrong)


def test_a_frame_needs_its_tokens():
    corpus = TokenCorpus(np.arange(9, dtype=np.uint16), np.ones(9, bool), np.array([0, 9]), np.array([0, 1]))
    with pytest.raises(UserError, match=r"compose\.frame bos-eos needs a special token for bos, .* \(it has eos\)"):
        compose(corpus, ComposeConfig(kind="raw", frame="bos-eos"), Specials(50, eos=2), 0, "", 0, range(1))
