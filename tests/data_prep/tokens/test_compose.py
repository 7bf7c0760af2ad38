"""Composing: BERT's pairs step by step, ALBERT's order, packed rows; the same in any batches.

In these corpora every token has an id of its own, so a row tells where its text is from.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions import build, config_of
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows, Specials, concat, num_rows, offsets_of
from data_prep.tokens import pairs as module
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
    corpus: TokenCorpus, kind: str, length: int = 32, documents=None, epoch: int = 0, sources=None, **settings
) -> Rows:
    config = ComposeConfig(kind=kind, length=length, **settings)
    documents = range(len(corpus)) if documents is None else documents
    return compose(corpus, config, SPECIALS, 1, "test", epoch, documents, sources).rows


def parts(rows: Rows, number: int) -> list[list[int]]:
    """The text between the special tokens of a row, checked for its frame."""
    row = rows["input"].row(number).tolist()
    assert row[0] == CLS and row[-1] == SEP
    seps = [place for place, token in enumerate(row) if token == SEP]
    bounds = [0, *seps]
    return [row[start + 1 : stop] for start, stop in pairwise(bounds)]


def document_of(corpus: TokenCorpus, token: int) -> int:
    return int(np.searchsorted(corpus.document_starts, token - 10, side="right")) - 1


def same(a: Rows, b: Rows) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(getattr(a[n], "values", a[n]), getattr(b[n], "values", b[n]))
        and np.array_equal(getattr(a[n], "offsets", 0), getattr(b[n], "offsets", 0))
        for n in a
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


def windows(a: list[int], b: list[int], room: int) -> list[tuple[list[int], list[int]]]:
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
    settings = {"per": per if kind == "raw" else "document", "pack": pack and kind != "stream"}
    config = ComposeConfig(kind=kind, length=length, **settings)
    rows, left_out = compose(corpus, config, SPECIALS, 1, "test", 0, range(len(corpus)))
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
    assert len(missing) == left_out
    expected = [token for number in alone for token in range(*(10 + corpus.document_starts[number : number + 2]))]
    assert missing == (set(expected) if kind == "sop" else set())


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(5, 60))
def test_a_pair_that_is_too_long_becomes_the_fewest_rows_that_hold_it(a, b, room):
    """Full rows, whose stretches begin and end alike: order cannot be told from them."""
    pair, first, second = module.windows(
        *(module.Spans(np.array([at]), np.array([at + size])) for at, size in ((0, a), (1000, b))), room
    )
    rows = [(range(*x), range(*y)) for x, y in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)]
    assert not pair.any()
    assert {*chain(*(x for x, _ in rows))} == {*range(a)} and {*chain(*(y for _, y in rows))} == {
        *range(1000, 1000 + b)
    }
    assert {len(x) + len(y) for x, y in rows} == {min(room, a + b)}
    fewer = len(rows) - 1
    assert not any(fewer * width >= a and fewer * (room - width) >= b for width in range(1, room))
    for one, other in pairwise(rows):
        assert one[0].start <= other[0].start and one[1].start <= other[1].start


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
    starts = np.array([parts(rows, n)[1][0] - 10 - 3000 for n in np.flatnonzero(rows["label"])])
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
    assert left_out == 9 and set(rows["document"].tolist()) == {0, 1}
    assert [sorted(chain(*parts(rows, n))) for n in range(2)] == [[*range(10, 22)], [*range(22, 30)]]


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


def padding(rows: Rows, length: int) -> float:
    return 1 - len(rows["input"].values) / (num_rows(rows) * length)


@pytest.mark.parametrize(
    "wrong", [{"kind": "pairs"}, {"length": 7}, {"short_probability": 2}, {"extra": 1}, {"epochs": 0}]
)
def test_configs_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        ComposeConfig(**({"kind": "nsp"} | wrong))


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
