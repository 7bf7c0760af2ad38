"""Corpora in which every token has an id of its own, so that a row tells where its text is from; rows of them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from data_prep.shards.rows import Specials, offsets_of
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus

CLS, SEP = 2, 3
SPECIALS = Specials(
    cls=CLS, sep=SEP, pad=0, mask=4, unk=1, eos=5, sentinels=range(10**6 - 1, 10**6 - 51, -1), vocabulary=10**6
)


def corpus_of(documents: list[list[int]]) -> TokenCorpus:
    """From the lengths of the sentences of each document; token t has the id 10 + t."""
    lengths = [length for document in documents for length in document]
    total = sum(lengths)
    word_start = np.arange(total) % 3 != 1
    counts = [len(document) for document in documents]
    ids = np.arange(10, 10 + total, dtype=np.uint32)
    return TokenCorpus(ids, word_start, offsets_of(lengths), offsets_of(counts))


@cache
def random_corpus(documents: int = 60, sentences: int = 40, longest: int = 20) -> TokenCorpus:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, sentences, documents)
    return corpus_of([rng.integers(1, longest, count).tolist() for count in counts])


CORPORA = st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=1, max_size=8).map(corpus_of)


def composed(
    corpus: TokenCorpus, kind: Any, length: int = 32, documents=None, epoch: int = 0, sources=None, **settings
) -> dict[str, Any]:
    config = ComposeConfig(kind=kind, length=length, **settings)
    documents = range(len(corpus)) if documents is None else documents
    return compose(corpus, config, SPECIALS, 1, "test", epoch, documents, sources).rows


def parts(rows: dict[str, Any], number: int) -> list[list[int]]:
    """The text between the special tokens of a row, checked for its frame."""
    row = rows["input"].row(number).tolist()
    assert row[0] == CLS and row[-1] == SEP
    seps = [place for place, token in enumerate(row) if token == SEP]
    bounds = [0, *seps]
    return [row[start + 1 : stop] for start, stop in pairwise(bounds)]


def document_of(corpus: TokenCorpus, token: int) -> int:
    return int(np.searchsorted(corpus.document_starts, token - 10, side="right")) - 1


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(getattr(a[n], "values", a[n]), getattr(b[n], "values", b[n]))
        and np.array_equal(getattr(a[n], "offsets", 0), getattr(b[n], "offsets", 0))
        for n in a
    )
