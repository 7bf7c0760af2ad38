"""Composing: BERT's pairs step by step, ALBERT's order, packed rows; the same in any batches.

In these corpora every token has an id of its own, so a row tells where its text is from.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions import build, config_of
from data_prep.rng import Draws, key
from data_prep.shards.rows import concat, num_rows
from data_prep.tokens import pairs as module
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus
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


@settings(deadline=None)
@given(CORPORA, st.sampled_from(["packed", "nsp", "sop"]), st.integers(8, 60), st.integers(0, 8), st.integers(0, 3))
def test_batches_of_documents_do_not_show(corpus, kind, length, cut, epoch):
    if kind == "nsp" and len(corpus.with_text) < 2:
        kind = "sop"
    whole = composed(corpus, kind, length, epoch=epoch, short_probability=0.5)
    cut = min(cut, len(corpus))
    batches = [range(cut), range(cut, len(corpus))]
    assert same(concat([composed(corpus, kind, length, b, epoch, short_probability=0.5) for b in batches]), whole)


@settings(deadline=None)
@given(CORPORA, st.sampled_from(["packed", "nsp", "sop"]), st.integers(8, 60))
def test_rows_have_their_frame_and_their_length(corpus, kind, length):
    if kind == "nsp" and len(corpus.with_text) < 2:
        kind = "packed"
    rows = composed(corpus, kind, length)
    assert rows["input"].values.dtype == np.uint32 and rows["document"].dtype == np.uint32
    assert rows["word_start"].values.dtype == np.uint8
    for number in range(num_rows(rows)):
        row, text = rows["input"].row(number), parts(rows, number)
        assert len(row) <= length and all(text)
        assert len(text) == (1 if kind == "packed" else 2)
        for part in text:  # a run of the corpus's tokens, inside one document
            assert part == list(range(part[0], part[0] + len(part)))
            assert document_of(corpus, part[0]) == document_of(corpus, part[-1])
        starts = [1 if token < 10 else int(corpus.word_start[token - 10]) for token in row]
        assert rows["word_start"].row(number).tolist() == starts
        assert rows["document"][number] in {document_of(corpus, part[0]) for part in text}
        if kind != "packed":
            segment = [0] * (len(text[0]) + 2) + [1] * (len(text[1]) + 1)
            assert rows["segment"].row(number).tolist() == segment
            assert rows["segment"].values.dtype == rows["label"].dtype == np.uint8


def create_instances_from_document(corpus: TokenCorpus, number: int, length: int, short: float, epoch: int):
    """BERT's published function, with a keyed draw for each of its random choices, that drops nothing.

    Where it would truncate, it puts the last sentence back, or makes several instances (`windows`); and it takes a
    second sentence where the first alone is long enough.
    """

    def sentences_of(number: int) -> list[list[int]]:
        first, last = corpus.document_offsets[number : number + 2]
        bounds = corpus.sentence_offsets[first : last + 1]
        return [corpus.tokens[a:b].tolist() for a, b in pairwise(bounds)]

    def is_put_back(before: int, sentences: list[list[int]], fewest: int) -> bool:
        total = before + sum(map(len, sentences))
        rows = -(-total // max_num_tokens)
        return len(sentences) > fewest and rows > 1 and (total - len(sentences[-1])) / 1 >= total / rows

    draws = Draws(key(1, "compose.nsp", "test"), epoch, number)
    document = sentences_of(number)
    max_num_tokens = length - 3
    target_seq_length = max_num_tokens
    if draws.uniform(module.SHORT)[0] < short:
        target_seq_length = 2 + int(draws.below(max_num_tokens - 1, module.TARGET)[0])
    instances = []
    current_chunk: list[list[int]] = []
    i = begin = 0
    while i < len(document):
        current_chunk.append(document[i])
        is_long = sum(map(len, current_chunk)) >= target_seq_length and len(current_chunk) > 1
        if i == len(document) - 1 or is_long:
            if is_put_back(0, current_chunk, 2):
                current_chunk.pop()
                i -= 1
            a_end = 1
            if len(current_chunk) >= 2:
                a_end = 1 + int(draws.below(len(current_chunk) - 1, module.SPLIT, begin)[0])
            tokens_a = list(chain(*current_chunk[:a_end]))
            tokens_b: list[int] = []
            is_random_next = len(current_chunk) == 1 or draws.uniform(module.COIN, begin)[0] < 0.5
            if is_random_next:
                target_b_length = target_seq_length - len(tokens_a)
                others = [other for other in corpus.with_text.tolist() if other != number]
                partner = sentences_of(others[int(draws.below(len(others), module.PARTNER, begin)[0])])
                random_start = int(draws.below(len(partner), module.START, begin)[0])
                foreign = []
                for sentence in partner[random_start:]:
                    foreign.append(sentence)
                    if sum(map(len, foreign)) >= target_b_length:
                        break
                if is_put_back(len(tokens_a), foreign, 1):
                    foreign.pop()
                tokens_b = list(chain(*foreign))
                i -= len(current_chunk) - a_end
            else:
                tokens_b = list(chain(*current_chunk[a_end:]))
            instances += [(a, b, is_random_next) for a, b in windows(tokens_a, tokens_b, max_num_tokens)]
            current_chunk = []
            begin = i + 1
        i += 1
    return instances


def windows(a: list[int], b: list[int], room: int) -> list[tuple[list[int], ...]]:
    """The fewest pairs of stretches that hold all of a and b, evenly spaced, the shorter as long as there is room."""
    if len(a) + len(b) <= room:
        return [(a, b)]
    count = min(max(-(-len(a) // width), -(-len(b) // (room - width))) for width in range(1, room))
    longer = -(-max(len(a), len(b)) // count)
    shorter = min(len(a), len(b), room - longer)
    longer = min(max(len(a), len(b)), room - shorter)
    widths = (longer, shorter) if len(a) > len(b) else (shorter, longer)
    return [
        tuple(
            text[(start := number * (len(text) - width) // (count - 1)) : start + width]
            for text, width in zip((a, b), widths, strict=True)
        )
        for number in range(count)
    ]


@settings(deadline=None, max_examples=60)
@given(CORPORA.filter(lambda c: len(c.with_text) > 1), st.integers(8, 60), st.floats(0, 1), st.integers(0, 2))
def test_nsp_is_berts_function_that_drops_nothing(corpus, length, short, epoch):
    rows = composed(corpus, "nsp", length, epoch=epoch, short_probability=short)
    expected = [
        instance
        for number in range(len(corpus))
        for instance in create_instances_from_document(corpus, number, length, short, epoch)
    ]
    assert num_rows(rows) == len(expected)
    for number, (a, b, label) in enumerate(expected):
        assert parts(rows, number) == [a, b] and rows["label"][number] == label


def test_very_long_sentences_become_many_rows():
    corpus = corpus_of([[500, 300, 700], [5, 900], [64, 65, 1000]])
    rows = composed(corpus, "nsp", 128)
    expected = [x for number in range(3) for x in create_instances_from_document(corpus, number, 128, 0.1, 0)]
    assert [(*parts(rows, number), rows["label"][number]) for number in range(num_rows(rows))] == expected


@settings(deadline=None, max_examples=200)
@given(
    CORPORA,
    st.sampled_from(["packed", "nsp", "sop", "raw", "stream"]),
    st.integers(8, 60),
    st.booleans(),
    st.sampled_from(["document", "sentence"]),
    st.sampled_from([{}, {"unit": "token"}, {"unit": "word"}, {"kind": "spans"}]),
)
def test_every_token_is_in_a_row_or_counted(corpus, kind, length, pack, per, corruption):
    """Of its own document, and as it comes back from corruption."""
    if kind == "nsp" and len(corpus.with_text) < 2:
        kind = "sop"
    settings: dict[str, Any] = {"per": per if kind == "raw" else "document", "pack": pack and kind != "stream"}
    config = ComposeConfig(kind=kind, length=length, **settings)
    composition = compose(corpus, config, SPECIALS, 1, "test", 0, range(len(corpus)))
    rows: Any = composition.rows
    if corruption and not (corruption.get("kind") == "spans" and config.joins):
        chosen = build(config_of({"kind": "masked-lm", **corruption}), SPECIALS)
        rows = chosen.restore(chosen(rows, Draws(1, 0, np.arange(num_rows(rows)))))
    ids = rows["input"].values
    if num_rows(rows):
        of = rows["document"]
        if config.joins:  # a document for each sequence
            documents = [of.row(row)[rows["sequence"].row(row)] for row in range(num_rows(rows))]
            documents = np.concatenate(documents)
        else:
            documents = np.repeat(of, rows["input"].lengths)
        own = np.searchsorted(corpus.document_starts, ids.astype(np.int64) - 10, side="right") - 1 == documents
        ids = ids[own & (ids >= 10)]
    kept = set(ids.tolist())
    alone = [number for number, count in enumerate(np.diff(corpus.document_offsets)) if count == 1]
    missing = set(corpus.tokens.tolist()) - kept
    assert len(missing) == composition.left_out
    expected = [token for number in alone for token in range(*(10 + corpus.document_starts[number : number + 2]))]
    assert missing == (set(expected) if kind == "sop" else set())


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(5, 60))
def test_a_pair_that_is_too_long_becomes_the_fewest_rows_that_hold_it(a, b, room):
    """Full rows, whose stretches begin and end alike: order cannot be told from them."""
    left, right = (module.Spans(np.array([at]), np.array([at + size])) for at, size in ((0, a), (1000, b)))
    pair, first, second = module.windows(left, right, room)
    rows = [(range(*x), range(*y)) for x, y in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)]
    assert not pair.any()
    assert {*chain(*(x for x, _ in rows))} == {*range(a)} and {*chain(*(y for _, y in rows))} == {
        *range(1000, 1000 + b)
    }
    assert {len(x) + len(y) for x, y in rows} == {min(room, a + b)}
    fewer = len(rows) - 1
    assert not any(fewer * width >= a and fewer * (room - width) >= b for width in range(1, room))
    for earlier, later in pairwise(rows):
        assert earlier[0].start <= later[0].start and earlier[1].start <= later[1].start


def test_a_small_example_is_pinned():
    rows = composed(corpus_of([[3, 4, 2, 3, 1, 6, 2], [5, 1]]), "nsp", 14)
    assert [parts(rows, number) for number in range(num_rows(rows))] == [
        [[10, 11, 12, 13, 14, 15], [31, 32, 33, 34, 35]],  # 3 + 4 + 5 tokens do not fit into 11
        [[11, 12, 13, 14, 15, 16], [31, 32, 33, 34, 35]],
        [[17, 18, 19, 20, 21], [22]],
        [[23, 24, 25, 26, 27, 28], [29, 30]],
        [[31, 32, 33, 34, 35], [23, 24, 25, 26, 27, 28]],
        [[36], [22, 23, 24, 25, 26, 27, 28, 29, 30]],
    ]
    assert rows["label"].tolist() == [1, 1, 0, 0, 1, 1]


def test_a_share_of_documents_is_cut_short():
    corpus = corpus_of([[1] * 200] * 1000)
    full = composed(corpus, "sop", 67, short_probability=0)
    assert set(full["input"].lengths.tolist()) == {67, 200 % 64 + 3}
    rows = composed(corpus, "sop", 67, short_probability=0.1)
    first = rows["input"].lengths[np.unique(rows["document"], return_index=True)[1]]
    assert (first < 67).mean() == pytest.approx(0.1 * 62 / 63, abs=5 * 0.3 / np.sqrt(1000))
    short = composed(corpus, "sop", 67, short_probability=1)["input"].lengths
    assert short.min() == 5  # two tokens


def test_epochs_seeds_and_names_compose_anew():
    corpus, config = random_corpus(), ComposeConfig(kind="nsp", length=64)
    keys = [(1, "a", 0), (1, "a", 1), (2, "a", 0), (1, "b", 0)]
    compositions = [compose(corpus, config, SPECIALS, seed, name, epoch, range(60)).rows for seed, name, epoch in keys]
    assert not any(same(compositions[0], other) for other in compositions[1:])


def test_packed_rows_hold_whole_sentences_of_one_document():
    corpus = corpus_of([[5, 5, 5, 5], [9], [], [25, 3, 3]])
    rows = composed(corpus, "packed", 14)
    assert set(rows) == {"input", "word_start", "document"}
    assert rows["document"].tolist() == [0, 0, 1, 3, 3, 3]
    assert (rows["input"].lengths - 2).tolist() == [10, 10, 9, 12, 12, 7]  # 25 = 12 + 12 + 1, then 3, 3
    filled = composed(corpus, "packed", 14, whole_sentences=False)
    assert (filled["input"].lengths - 2).tolist() == [12, 8, 9, 12, 12, 7]


@settings(deadline=None)
@given(CORPORA, st.integers(8, 60), st.booleans())
def test_packed_rows_are_the_text_and_as_few_as_fit(corpus, length, whole):
    rows = composed(corpus, "packed", length, whole_sentences=whole)
    text = [parts(rows, number)[0] for number in range(num_rows(rows))]
    assert list(chain(*text)) == corpus.tokens.tolist()
    borders = set(corpus.sentence_offsets.tolist())
    for number, part in enumerate(text):
        begin, end = part[0] - 10, part[-1] - 10 + 1
        if end == corpus.document_starts[rows["document"][number] + 1]:
            continue  # a document's last row may be short
        if not whole:
            assert len(part) == length - 2
        else:
            following = int(corpus.sentence_offsets[np.searchsorted(corpus.sentence_offsets, end, "right")])
            assert (end in borders and following - begin > length - 2) or len(part) == length - 2


def test_no_documents_and_no_rows():
    for kind in ("packed", "nsp", "sop"):
        rows = composed(random_corpus(), kind, documents=range(0))
        assert num_rows(rows) == 0 and rows["input"].values.dtype == np.uint32
    assert num_rows(composed(corpus_of([[5], [7]]), "sop")) == 0


@settings(deadline=None)
@given(CORPORA, st.sampled_from(["packed", "nsp", "sop"]), st.integers(8, 60))
def test_packing_puts_every_composed_sequence_into_one_row(corpus, kind, length):
    if kind == "nsp" and len(corpus.with_text) < 2:
        kind = "sop"
    alone, together = composed(corpus, kind, length), composed(corpus, kind, length, pack=True)
    assert set(together) == {*alone, "sequence"}
    assert num_rows(together) <= num_rows(alone)
    assert not num_rows(together) or together["input"].lengths.max() <= length
    per_token = [name for name in ("input", "word_start", "segment") if name in alone]
    per_sequence = [name for name in ("document", "label") if name in alone]
    sequences = []
    for number in range(num_rows(together)):
        sequence = together["sequence"].row(number)
        for place in range(len(together["document"].row(number))):
            columns = [together[name].row(number)[sequence == place].tolist() for name in per_token]
            sequences.append([*columns, *(int(together[name].row(number)[place]) for name in per_sequence)])
    expected = [
        [*(alone[name].row(n).tolist() for name in per_token), *(int(alone[name][n]) for name in per_sequence)]
        for n in range(num_rows(alone))
    ]
    assert sorted(sequences) == sorted(expected)
    assert together["sequence"].values.dtype == np.uint8


@pytest.mark.parametrize("kind", ["nsp", "sop"])
@pytest.mark.parametrize("sentences", [16, 3])
def test_packed_pairs_waste_two_tokens_in_a_hundred_at_most(kind, sentences, length=512):
    """Articles and paragraphs, in sentences of about 25 tokens; rows of 128 hold too few of those to mix."""
    rng = np.random.default_rng(0)
    counts = np.clip(rng.lognormal(np.log(sentences), 0.8, 16_000 // sentences), 1, None).astype(int)
    corpus = corpus_of([np.clip(rng.lognormal(3.1, 0.5, count), 1, 120).astype(int).tolist() for count in counts])
    alone, together = (composed(corpus, kind, length, pack=pack) for pack in (False, True))
    assert padding(together, length) < 0.02 < padding(alone, length)


def padding(rows: dict[str, Any], length: int) -> float:
    return 1 - len(rows["input"].values) / (num_rows(rows) * length)


@pytest.mark.parametrize(
    "wrong", [{"kind": "pairs"}, {"length": 7}, {"short_probability": 2}, {"extra": 1}, {"epochs": 0}]
)
def test_configs_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        ComposeConfig(**({"kind": "nsp"} | wrong))
