"""BART's five noises, each alone and all together: what is counted, what may change, and how likely each outcome is."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions.bart import Bart, BartConfig, span_lengths
from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged

PAD, BOS, EOS, MASK = range(4)
SPECIALS = Specials(1000, pad=PAD, bos=BOS, eos=EOS, mask=MASK)
MASKING = {"permute": 0, "unit": "token", "replace": "masks"}
DELETION = {"permute": 0, "unit": "token", "replace": "nothing"}
INFILLING: dict[str, Any] = {"permute": 0}
PERMUTATION = {"rate": 0}
ROTATION = {"permute": 0, "rate": 0, "rotate": 1}
INSERTION = {"permute": 0, "rate": 0, "insert": 0.1}


def corruption(**options: Any) -> Bart:
    return Bart(BartConfig(kind="bart", **options), SPECIALS)


def example(words: list[list[int]], framed: bool = True) -> Rows:
    """Rows of words, each a number of tokens; sentences have three words. A token tells its place in the text."""
    ids, starts, sentences = [], [], []
    for sizes in words:
        count, front = sum(sizes), [BOS] if framed else []
        ids.append([*front, *range(10, 10 + count), *([EOS] if framed else [])])
        start = [int(piece == 0) for size in sizes for piece in range(size)]
        starts.append([1] * framed + start + [1] * framed)
        sentence = [number // 3 for number, size in enumerate(sizes) for _ in range(size)]
        sentences.append([0] * framed + sentence + sentence[-1:] * framed)
    return {
        "input": Ragged.from_rows(ids, np.uint16),
        "word_start": Ragged.from_rows(starts, np.uint8),
        "sentence": Ragged.from_rows(sentences, np.uint16),
    }


def seen(words: list[list[int]], **options: Any) -> list[list[int]]:
    rows = corruption(**options)(example(words), Draws(7, 0, np.arange(len(words))))
    return [ragged(rows, "seen").row(row).tolist() for row in range(len(words))]


def texts(words: list[list[int]], **options: Any) -> list[list[int]]:
    """What is between the special tokens, which stay."""
    noised = seen(words, **options)
    assert all(row[0] == BOS and row[-1] == EOS for row in noised)
    return [row[1:-1] for row in noised]


sizes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=40), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(words=sizes, rate=st.floats(0.01, 1))
def test_masking_keeps_the_length_and_hides_the_budget(words: list[list[int]], rate: float) -> None:
    for row, text in zip(words, texts(words, **MASKING | {"rate": rate}), strict=True):
        count = sum(row)
        assert text.count(MASK) == math.ceil(rate * count - 1e-9)
        assert all(token in (MASK, 10 + place) for place, token in enumerate(text)) and len(text) == count


@settings(max_examples=40, deadline=None)
@given(words=sizes, rate=st.floats(0.01, 1))
def test_deletion_removes_the_budget_and_nothing_else(words: list[list[int]], rate: float) -> None:
    for row, text in zip(words, texts(words, **DELETION | {"rate": rate}), strict=True):
        count = sum(row)
        assert len(text) == count - math.ceil(rate * count - 1e-9)
        assert text == sorted(set(text)) and set(text) <= set(range(10, 10 + count))


@settings(max_examples=60, deadline=None)
@given(words=sizes, rate=st.floats(0.01, 1), replace=st.sampled_from(["mask", "masks", "nothing"]))
def test_whole_words_are_hidden_up_to_the_budget(words: list[list[int]], rate: float, replace: str) -> None:
    options = {"permute": 0, "unit": "word", "rate": rate, "replace": replace}
    for row, text in zip(words, texts(words, **options), strict=True):
        bounds = np.cumsum([10, *row])
        hidden = [not set(range(*span)) & set(text) for span in pairwise(bounds.tolist())]
        assert sum(hidden) == math.ceil(rate * len(row) - 1e-9)
        whole = [token for token in text if token != MASK]
        assert len(whole) == sum(size for size, gone in zip(row, hidden, strict=True) if not gone)
        of_word = {"mask": 1, "nothing": 0}
        masks = sum(of_word.get(replace, size) for size, gone in zip(row, hidden, strict=True) if gone)
        assert text.count(MASK) == masks


@settings(max_examples=80, deadline=None)
@given(words=sizes, rate=st.floats(0.01, 1), mean=st.floats(0.5, 6))
def test_infilling_hides_whole_words_within_the_budget(words: list[list[int]], rate: float, mean: float) -> None:
    for row, text in zip(words, texts(words, **INFILLING | {"rate": rate, "mean_length": mean}), strict=True):
        bounds = np.cumsum([10, *row])
        left = [token for token in text if token != MASK]
        assert left == sorted(set(left))
        whole = [set(range(*span)) & set(left) for span in pairwise(bounds.tolist())]
        assert all(len(pieces) in (0, size) for pieces, size in zip(whole, row, strict=True))
        hidden = sum(not pieces for pieces in whole)
        assert 1 <= hidden <= math.ceil(rate * len(row) - 1e-9)
        runs = sum(gone for gone, _ in groupby(not pieces for pieces in whole) if gone)
        assert text.count(MASK) >= runs and len(text) <= sum(row)


def test_lengths_are_poissons_and_the_last_is_cut_to_the_budget() -> None:
    budget = np.full(4000, 300)
    length, spans, empty = span_lengths(budget, 3.0, Draws(1, 0, np.arange(4000)))
    assert (np.add.reduceat(length, np.cumsum(spans) - spans) == 300).all() and (length > 0).all()
    count = spans.sum() + empty.sum()
    assert empty.sum() / count == pytest.approx(math.exp(-3), rel=0.03)
    for k in range(1, 8):
        assert (length == k).sum() / count == pytest.approx(math.exp(-3) * 3**k / math.factorial(k), rel=0.05)
    few, spans, empty = span_lengths(np.array([0, 1, 2]), 3.0, Draws(1, 0, np.arange(3)))
    assert few.sum() == 3 and spans[0] == empty[0] == 0


def test_spans_that_meet_share_words_and_one_that_is_run_over_leaves_no_mask() -> None:
    """λ = 3 and everything hidden: spans begin at distinct words, so only in a row can they cover all."""
    noised = texts([[1] * 30] * 2000, permute=0, rate=1)
    assert {token for row in noised for token in row} > {MASK}
    gaps = [sum(token != MASK for token in row) for row in noised]
    assert 0 < np.mean(gaps) < 15  # spans run into each other and leave words that the budget would have paid for


def test_a_span_of_nothing_inserts_a_mask_anywhere() -> None:
    """Of 40 words, ceil(0.05 · 40) are hidden; zeros before them are masks between any two words that are left."""
    noised = texts([[1] * 40] * 6000, permute=0, rate=0.05, mean_length=0.5)
    assert Counter(len(row) for row in noised).keys() <= set(range(39, 41))
    extra = [row for row in noised if row.count(MASK) > 40 - len([token for token in row if token != MASK])]
    assert not extra, "x′ is no longer than x"
    two = [row.index(MASK) for row in noised if row.count(MASK) == 2]
    assert min(two) == 0 and max(two) > 30


@settings(max_examples=40, deadline=None)
@given(words=sizes, share=st.floats(0.01, 1))
def test_sentences_change_places_as_wholes(words: list[list[int]], share: float) -> None:
    for row, text in zip(words, texts(words, rate=0, permute=share), strict=True):
        bounds = np.cumsum([10, *[sum(row[start : start + 3]) for start in range(0, len(row), 3)]])
        sentences = [list(range(*span)) for span in pairwise(bounds.tolist())]
        permuted, rest = [], text
        while rest:
            (sentence,) = [sentence for sentence in sentences if sentence[0] == rest[0]]
            assert rest[: len(sentence)] == sentence
            permuted.append(sentence)
            rest = rest[len(sentence) :]
        assert sorted(permuted) == sentences
        moved = sum(left != right for left, right in zip(permuted, sentences, strict=True))
        assert moved <= math.ceil(share * len(sentences) - 1e-9)


def test_budgets_are_those_of_the_share_that_is_meant() -> None:
    """0.07 · 100 and 25 · (7 / 25) exceed 7 as floats; fairseq takes the ceiling of such a product, which is 8."""
    assert math.ceil(0.07 * 100) == math.ceil(25 * (7 / 25)) == 8
    assert texts([[1] * 100], **MASKING | {"rate": 0.07})[0].count(MASK) == 7
    assert texts([[1] * 23], **INSERTION | {"insert": 7 / 25})[0].count(MASK) == 7  # of 25 with the special tokens


def test_every_order_of_sentences_is_as_likely_as_any() -> None:
    count = 6000
    orders = Counter(tuple(row) for row in texts([[1] * 9] * count, **PERMUTATION))
    assert len(orders) == 6
    assert sum((number - count / 6) ** 2 / (count / 6) for number in orders.values()) < 20.5  # chi², 5 df, p = 0.001
    fixed = Counter(row[0] == 10 for row in texts([[1] * 9] * count, rate=0, permute=0.5))  # two of three
    assert fixed[True] / count == pytest.approx(1 / 3 + 2 / 3 / 2, abs=0.03)


def test_a_word_that_a_sentence_begins_with_is_one_wherever_it_comes() -> None:
    """The first sentence begins inside a word, and comes to stand after another."""
    rows = example([[2, 2, 2, 2, 2, 2]])
    ragged(rows, "word_start").values[1] = 0
    corrupted = corruption(rate=1, unit="word", replace="mask")(rows, Draws(7, 0, [0]))
    assert ragged(corrupted, "seen").row(0).tolist() == [BOS, *[MASK] * 6, EOS]


def test_rotation_begins_at_any_token() -> None:
    """Offsets 1 … length − 1 of fairseq, with the special tokens counted: two of them change nothing."""
    count = 12_000
    starts = Counter(row[0] for row in texts([[1, 2, 2]] * count, **ROTATION))
    assert starts[10] / count == pytest.approx(2 / 6, abs=0.02)
    assert all(starts[token] / count == pytest.approx(1 / 6, abs=0.02) for token in range(11, 15))
    for row in texts([[1, 2, 2]] * 20, **ROTATION):
        place = row.index(10)
        assert row[place:] + row[:place] == [10, 11, 12, 13, 14]
    half = texts([[1] * 50] * 2000, **ROTATION | {"rotate": 0.5})
    assert np.mean([row[0] == 10 for row in half]) == pytest.approx(0.5 + 0.5 * 2 / 51, abs=0.04)


def test_insertion_counts_all_tokens_and_every_mixture_is_as_likely() -> None:
    assert all(len(row) == 18 + 2 and row.count(MASK) == 2 for row in texts([[1] * 18] * 50, **INSERTION))
    count, options = 9000, INSERTION | {"insert": 0.4}
    mixed = Counter(tuple(row) for row in texts([[1] * 3] * count, **options))  # 2 of 5 places
    assert len(mixed) == 10
    assert sum((number - count / 10) ** 2 / (count / 10) for number in mixed.values()) < 27.9  # chi², 9 df, p = 0.001


def test_random_tokens_are_of_the_text_and_as_many_as_asked() -> None:
    rows = texts([[1] * 90] * 300, **MASKING | {"random": 0.1})
    share = np.mean([row.count(MASK) / 27 for row in rows])
    assert share == pytest.approx(0.9, abs=0.02)
    changed = [token for row in rows for place, token in enumerate(row) if token not in (MASK, 10 + place)]
    assert min(changed) >= 4 and len(set(changed)) > 400
    inserted = texts([[1] * 18] * 50, **INSERTION | {"insert": 0.5, "random": 0.25})
    assert all(row.count(MASK) == 10 - 3 for row in inserted)  # ceil(0.25 · 10) random


def test_all_of_them_come_in_their_order() -> None:
    """Rotation after insertion after masking after permutation."""
    words = [[1] * 12] * 2
    alone = texts(words, **PERMUTATION)[1]
    assert alone == [13, 14, 15, 19, 20, 21, 16, 17, 18, 10, 11, 12]
    masking = {"permute": 1, "rate": 0.3, "unit": "token", "replace": "nothing"}
    both = texts(words, **masking)[1]
    assert [token for token in alone if token in both] == both and len(both) == 12 - 4
    three = texts(words, **masking, insert=0.2)[1]
    assert [token for token in three if token != MASK] == both and three.count(MASK) == 2
    four = texts(words, **masking, insert=0.2, rotate=1)[1]
    assert four != three and any(four[place:] + four[:place] == three for place in range(len(four)))


def test_rows_are_pinned() -> None:
    """What the keyed draws give may not change: shards and checkpoints depend on it."""
    assert seen([[1, 2, 1, 1, 3, 1, 1, 2, 1, 1]] * 2) == [
        [BOS, 10, 11, 12, 13, 14, 15, 16, 17, MASK, 20, 21, 22, EOS],
        [BOS, 14, 15, 16, 17, 18, 23, 19, 20, 21, MASK, 13, EOS],
    ]
    assert seen([[2] * 8], insert=0.1, rotate=1, random=0.5) == [
        [BOS, 18, 19, MASK, 10, 11, 12, 13, 14, MASK, 15, 16, 822, 17, EOS]
    ]


def test_rows_without_special_tokens_and_of_one_token() -> None:
    rows = example([[1], [2, 1]], framed=False)
    rows = {name: Ragged.concat([column, Ragged.from_rows([[]], np.uint16)]) for name, column in rows.items()}  # type: ignore[list-item]
    corrupted = corruption(rate=1, unit="token", replace="masks", rotate=1)(rows, Draws(1, 0, np.arange(3)))
    assert [ragged(corrupted, "seen").row(row).tolist() for row in range(3)] == [[MASK], [MASK] * 3, []]
    framed: Rows = {"input": Ragged.from_rows([[BOS, EOS], [EOS]], np.uint16)}
    alone = corruption(permute=0, rate=0.5, unit="token", insert=0.5)(framed, Draws(1, 0, np.arange(2)))
    assert [ragged(alone, "seen").row(row).tolist() for row in range(2)] == [[BOS, MASK, EOS], [EOS, MASK]]


def test_what_it_cannot_use_is_said() -> None:
    rows = example([[1, 1]])
    with pytest.raises(UserError, match="bart with these settings needs rows with sentence, and these have none"):
        corruption()({name: rows[name] for name in ("input", "word_start")}, Draws(1, 0, [0]))
    with pytest.raises(ValueError, match="corruption bart is of rows of one sequence each"):
        corruption()(rows | {"sequence": rows["sentence"]}, Draws(1, 0, [0]))
    with pytest.raises(ValueError, match="a row of 32769 tokens is longer than 32768"):
        corruption(**MASKING)({"input": Ragged.from_rows([np.full(32_769, 9)])}, Draws(1, 0, [0]))
    with pytest.raises(UserError, match="the corruption bart needs a special token for mask"):
        Bart(BartConfig(kind="bart"), Specials(50, eos=1))
    assert Bart(BartConfig(kind="bart", rate=0), Specials(50, eos=1)).needs.specials == ()
    with pytest.raises(ValidationError, match="all 0, which leaves nothing to restore"):
        BartConfig(kind="bart", permute=0, rate=0)


@pytest.mark.parametrize(("insert", "n", "raw"), [(0.0, 128, 128), (0.1, 110, 100), (0.1, 8, 7), (1.0, 8, 4)])
def test_rows_leave_room_for_what_is_inserted(insert: float, n: int, raw: int) -> None:
    assert corruption(insert=insert).raw_length(n) == raw
