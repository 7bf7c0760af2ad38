"""Pairs of NSP and SOP: partners, labels and order; see `corpora`."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards.rows import num_rows
from data_prep.tokens.compose import ComposeConfig, compose
from tests.data_prep.tokens.corpora import (
    CORPORA,
    SPECIALS,
    composed,
    corpus_of,
    document_of,
    parts,
    random_corpus,
    same,
)


def test_a_random_partner_is_from_another_document_and_a_real_one_follows():
    corpus = random_corpus()
    rows = composed(corpus, "nsp", 64)
    labels = rows["label"]
    assert 0 < labels.mean() < 1
    for number in range(num_rows(rows)):
        a, b = parts(rows, number)
        owners = document_of(corpus, a[0]), document_of(corpus, b[0])
        assert owners[0] == rows["document"][number]
        assert (owners[0] != owners[1]) == labels[number]
        if not labels[number]:
            assert a[-1] < b[0]


def test_partners_are_uniform_over_the_other_documents_and_their_sentences():
    corpus = corpus_of([[1] * 3000, [], [1] * 4, [1] * 4, [1] * 4])
    rows = composed(corpus, "nsp", 8, documents=range(1), short_probability=0)
    starts = np.array([parts(rows, n)[1][0] - 10 - 3000 for n in np.flatnonzero(rows["label"]).tolist()])
    counts = np.bincount(starts, minlength=12)
    expected = len(starts) / 12
    assert len(starts) > 300 and ((counts - expected) ** 2 / expected).sum() < 11 + 5 * np.sqrt(22)


def test_more_than_half_are_random_where_documents_are_short():
    one_sentence = corpus_of([[5]] * 200)
    assert composed(one_sentence, "nsp")["label"].mean() == 1
    rng = np.random.default_rng(0)
    short = corpus_of([rng.integers(1, 30, rng.integers(1, 4)).tolist() for _ in range(2000)])
    assert 0.55 < composed(short, "nsp", 32)["label"].mean() < 0.95


def test_half_are_random_where_no_chunk_is_one_sentence():
    """Documents of two sentences that fit together: one fair coin each, then a forced one if put back."""
    rows = composed(corpus_of([[3, 4]] * 5000), "nsp", 64, short_probability=0)
    first = np.unique(rows["document"], return_index=True)[1]
    assert rows["label"][first].mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(5000))
    assert num_rows(rows) == 5000 + rows["label"][first].sum()


def test_what_a_random_partner_displaces_is_put_back():
    """With sentences of one token nothing is ever truncated: each document is used up, once, in order."""
    corpus = corpus_of([[1] * count for count in (40, 3, 17, 1, 90)])
    rows = composed(corpus, "nsp", 16, short_probability=0.5)
    own: list[int] = []
    for number in range(num_rows(rows)):
        a, b = parts(rows, number)
        own += a if rows["label"][number] else a + b
    assert own == corpus.tokens.tolist()


def test_nsp_needs_a_second_document():
    for corpus in (corpus_of([[3, 4]]), corpus_of([[3, 4], []])):
        with pytest.raises(UserError, match="test has 1 with text"):
            composed(corpus, "nsp")


def test_sop_takes_both_from_one_document_and_swaps_half():
    corpus = random_corpus(200)
    rows = composed(corpus, "sop", 64)
    labels, count = rows["label"], num_rows(rows)
    assert count > 500 and labels.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(count))
    for number in range(count):
        a, b = parts(rows, number)
        assert document_of(corpus, a[0]) == document_of(corpus, b[0]) == rows["document"][number]
        assert (b[0] < a[0]) == labels[number]


def test_sop_uses_a_document_up_in_order_and_leaves_out_one_sentence():
    corpus = corpus_of([[2] * 40, [5], [2] * 7, [70, 70]])
    rows = composed(corpus, "sop", 17, short_probability=0)
    assert rows["document"].tolist() == [0] * 6 + [2] + [3] * 10  # 40 = 5 · 7 + 5, 140 = 10 · 14; [5] is one sentence
    swapped = [parts(rows, number)[:: -1 if rows["label"][number] else 1] for number in range(num_rows(rows))]
    first = [token for a, b in swapped[:6] for token in a + b]
    assert first == list(range(10, 90))


def test_a_swapped_pair_is_cut_as_the_other_one():
    """Two rows hold 28 + 60 tokens only if each has 30 of B: neither order nor place shows in lengths."""
    rows = composed(corpus_of([[28, 60]] * 50), "sop", 47, short_probability=0)
    assert num_rows(rows) == 100 and set(rows["label"].tolist()) == {0, 1}
    for number in range(100):
        sizes = [len(part) for part in parts(rows, number)]
        assert sizes == ([30, 14] if rows["label"][number] else [14, 30])


def test_the_ends_of_a_pair_do_not_tell_its_order():
    """A swapped pair's first text ends inside a sentence as often as any other's."""
    rng = np.random.default_rng(0)
    corpus = corpus_of([rng.integers(10, 60, 30).tolist() for _ in range(300)])
    rows = composed(corpus, "sop", 40)
    ends = np.array(
        [[part[-1] - 9 in corpus.sentence_offsets for part in parts(rows, n)] for n in range(num_rows(rows))]
    )
    begins = np.array(
        [[part[0] - 10 in corpus.sentence_offsets for part in parts(rows, n)] for n in range(num_rows(rows))]
    )
    swapped = rows["label"] == 1
    for place in (ends, begins):
        for part in (0, 1):
            shares = place[swapped, part].mean(), place[~swapped, part].mean()
            assert abs(shares[0] - shares[1]) < 5 * np.sqrt(0.5 / num_rows(rows))


def test_sop_leaves_no_sentence_of_a_document_alone():
    corpus = corpus_of([[4, 4, 4, 4, 4], [30, 30, 30], [9]])
    rows, left_out = compose(corpus, ComposeConfig(kind="sop", length=19), SPECIALS, 1, "test", 0, range(3))
    assert left_out == 9 and set(np.asarray(rows["document"]).tolist()) == {0, 1}
    assert [sorted(chain(*parts(rows, n))) for n in range(2)] == [[*range(10, 22)], [*range(22, 30)]]


@settings(deadline=None, max_examples=60)
@given(CORPORA, st.data())
def test_a_random_sentence_is_of_the_same_source(corpus, data):
    if len(corpus.with_text) < 2:
        return
    sources = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(corpus), max_size=len(corpus))))
    rows = composed(corpus, "nsp", sources=sources)
    others = {source: int((sources[corpus.with_text] == source).sum()) for source in range(3)}
    for number in np.flatnonzero(rows["label"]).tolist():
        a, b = (document_of(corpus, part[0]) for part in parts(rows, number))
        assert a != b and (sources[a] == sources[b] or others[sources[a]] == 1)
    assert same(composed(corpus, "nsp", sources=np.zeros(len(corpus), int)), composed(corpus, "nsp"))
