"""Masked spans: SpanBERT's definition word for word, and what it is easily mistaken for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions import masking as chunked
from data_prep.corruptions.masked_spans import ANCHOR, FATE, LENGTH, RANDOM, ROUND, MaskedSpans, MaskedSpansConfig
from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, concat, num_rows, ragged, take
from tests.data_prep.corruptions.test_masking import CLS, MASK, PAD, SEP, SPECIALS, batches, drawn, rows_of, same, text

CONFIGS = st.builds(
    lambda **given: MaskedSpansConfig(kind="masked-spans", **given),
    rate=st.floats(0.01, 0.95),
    lengths=st.sampled_from(["geometric", "reciprocal"]),
    longest=st.integers(1, 12),
    fate=st.sampled_from(["span", "token"]),
    random_from=st.sampled_from(["row", "vocabulary"]),
)


def spans(**options) -> Any:
    return MaskedSpans(MaskedSpansConfig(kind="masked-spans", **options), SPECIALS)


def reference(
    row: np.ndarray, starts: np.ndarray, sequence: np.ndarray, config: MaskedSpansConfig, draws: Draws, number: int
) -> tuple[list[int], list[int]]:
    """One row, token by token, as the published `PairWithSpanMaskingScheme.mask` and `span_masking` go about it."""
    seen, positions = row.copy(), []
    lengths = np.cumsum(config.probabilities)[:-1]
    for sequence_number in dict.fromkeys(sequence.tolist()):
        places = [i for i in range(len(row)) if sequence[i] == sequence_number and row[i] not in SPECIALS.all]
        if not places:
            continue
        budget, mask, turn = math.ceil(config.rate * len(places) - 1e-9), set(), 0

        def begins_word(place: int, places: list[int] = places) -> bool:
            return bool(starts[place]) or place - 1 not in places

        while len(mask) < budget:
            name, turn = places[0] + turn * ROUND, turn + 1
            place = places[int(draws.below(len(places), ANCHOR, name, number))]
            words_left = 1 + int(np.searchsorted(lengths, draws.uniform(LENGTH, name, number), side="right"))
            if place in mask:
                continue
            while not begins_word(place):
                place -= 1
            while place in places and len(mask) < budget:
                mask.add(place)
                place += 1
                if place in places and begins_word(place):
                    words_left -= 1
                    if not words_left or (place - 1) not in places:
                        break
        merged: list[list[int]] = []
        for place in sorted(mask):
            if merged and merged[-1][-1] == place - 1:
                merged[-1].append(place)
            else:
                merged.append([place])
        for span in merged:
            for place in span:
                fate = draws.uniform(FATE, span[0] if config.fate == "span" else place, number)
                if fate < config.mask:
                    seen[place] = MASK
                elif fate < config.mask + config.random and config.random_from == "row":
                    seen[place] = row[places[int(draws.below(len(places), RANDOM, place, number))]]
                elif fate < config.mask + config.random:
                    seen[place] = SPECIALS.ordinary[draws.below(len(SPECIALS.ordinary), RANDOM, place, number)]
        positions += sorted(mask)
    return positions, seen.tolist()


@settings(max_examples=150, deadline=None)
@given(batches(), CONFIGS, st.booleans())
def test_it_is_the_definition(rows: Rows, config: MaskedSpansConfig, joined: bool) -> None:
    if joined:  # several sequences in each row
        rows = rows | {"sequence": Ragged.from_rows([np.arange(n) // 7 for n in ragged(rows, "input").lengths])}
    draws = drawn(num_rows(rows))
    corrupted = MaskedSpans(config, SPECIALS)(rows, draws)
    for number in range(num_rows(rows)):
        clean, starts = ragged(rows, "input").row(number), ragged(rows, "word_start").row(number)
        sequence = ragged(rows, "sequence").row(number) if joined else np.zeros(len(clean), int)
        positions, seen = reference(clean, starts, sequence, config, draws, number)
        assert ragged(corrupted, "target_positions").row(number).tolist() == positions
        assert ragged(corrupted, "target_ids").row(number).tolist() == clean[positions].tolist()
        assert ragged(corrupted, "seen").row(number).tolist() == seen


@settings(deadline=None)
@given(batches(), CONFIGS, st.data())
def test_batches_do_not_show_and_x_can_be_restored(rows: Rows, config: MaskedSpansConfig, data: st.DataObject) -> None:
    corruption, count = MaskedSpans(config, SPECIALS), num_rows(rows)
    draws = drawn(count)
    whole = corruption(rows, draws)
    index = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    assert same(corruption(take(rows, index), draws.take(index)), take(whole, index))
    cut = data.draw(st.integers(0, count))
    parts = [np.arange(cut), np.arange(cut, count)]
    assert same(concat([corruption(take(rows, part), draws.take(part)) for part in parts]), whole)
    assert same(corruption.restore(whole), rows)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, draws = text(50, 30), drawn(50)
    whole = spans()(rows, draws)
    monkeypatch.setattr(chunked, "CHUNK", 70)
    assert same(spans()(rows, draws), whole)


def test_a_small_example_is_pinned() -> None:
    tokens = [CLS, *range(10, 38), SEP]
    corrupted = spans(rate=0.3)(rows_of([tokens] * 3, [[1, 1, 0] * 10] * 3), drawn(3))
    assert ragged(corrupted, "target_positions").lengths.tolist() == [9, 9, 9]  # ceil(0.3 · 28)
    assert [ragged(corrupted, "target_positions").row(i).tolist() for i in range(3)] == [
        [1, 2, 3, 4, 5, 25, 26, 27, 28],
        [6, 7, 8, 9, 10, 11, 19, 27, 28],
        [6, 7, 8, 9, 19, 20, 21, 22, 23],
    ]
    seen, places = ragged(corrupted, "seen"), ragged(corrupted, "target_positions")
    assert (seen.values[seen.offsets[places.row_index()] + places.values] == MASK).all()
    from_row = spans(rate=0.2, mask=0, random=1, keep=0)(rows_of([tokens]), drawn(1))
    assert ragged(from_row, "target_ids").row(0).tolist() == [11, 12, 13, 34, 35, 36]
    assert from_row["seen"].row(0)[ragged(from_row, "target_positions").row(0)].tolist() == [32, 19, 14, 35, 20, 16]


def test_lengths_are_cut_off_and_not_clipped() -> None:
    """Moving the tail to ten words would make a mean of 4.463."""
    config = spans().config
    assert config.mean_length == pytest.approx(3.797, abs=5e-4)
    clipped = 0.2 * 0.8 ** np.arange(10)
    clipped[-1] = 0.8**9
    assert clipped @ np.arange(1, 11) == pytest.approx(4.463, abs=5e-4)
    ngrams = spans(lengths="reciprocal", longest=3).config
    assert ngrams.probabilities == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_first_spans_have_these_lengths() -> None:
    """Of one-token words in long rows, a span that meets no other has the length that was drawn."""
    length, count = 2000, 3000
    rows = rows_of([np.arange(length) % 400 + 5] * count)
    places = ragged(spans(rate=1e-4)(rows, drawn(count)), "target_positions")
    assert places.lengths.tolist() == [1] * count
    anchors = places.values / length
    assert anchors.mean() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / count))
    positions = ragged(spans(rate=0.01)(rows, drawn(count)), "target_positions")  # twenty tokens: about five spans
    begins = np.append(True, np.diff(positions.values.astype(int) + positions.row_index() * 10 * length) != 1)
    runs = np.diff(np.flatnonzero(begins), append=len(begins))
    # Spans merge seldom; the last of each row is cut by the budget: a fifth of them, so the mean is somewhat lower.
    assert 3.2 < runs.mean() < 3.797
    assert runs.max() <= 20


def test_the_budget_is_exact_and_rounded_up() -> None:
    for length in (3, 10, 22, 23, 64, 512):
        corrupted = spans()(text(20, length), drawn(20))
        assert (ragged(corrupted, "target_ids").lengths == math.ceil(0.15 * (length - 2))).all()
        assert spans().counts(length).targets == math.ceil(0.15 * (length - 2))
    assert math.ceil(0.07 * 100) == 8  # as floats: the budget is that of the number meant
    assert (ragged(spans(rate=0.07)(text(20, 102), drawn(20)), "target_ids").lengths == 7).all()
    nothing = spans()(rows_of([[], [CLS, SEP], [PAD, PAD]]), drawn(3))
    assert ragged(nothing, "target_ids").lengths.tolist() == [0, 0, 0]


def runs_of(corrupted: Rows, number: int) -> list[np.ndarray]:
    places = ragged(corrupted, "target_positions").row(number).astype(int)
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)


def test_spans_begin_with_words_and_touching_spans_share_a_fate() -> None:
    rows = text(400, 64, inside=0.4)
    corrupted = spans(rate=0.4, random_from="vocabulary", random=0.1)(rows, drawn(400))
    fates: dict[str, int] = {"mask": 0, "random": 0, "keep": 0}
    for number in range(400):
        clean, seen = ragged(rows, "input").row(number), ragged(corrupted, "seen").row(number)
        for run in runs_of(corrupted, number):
            assert ragged(rows, "word_start").row(number)[run[0]] or run[0] == 1
            kinds = {"mask" if seen[i] == MASK else "keep" if seen[i] == clean[i] else "random" for i in run}
            assert len(kinds) == 1 or kinds == {"keep", "random"}  # a random token may be the same
            fates["random" if "random" in kinds else kinds.pop()] += 1
    total = sum(fates.values())
    for name, share in {"mask": 0.8, "random": 0.1, "keep": 0.1}.items():
        assert fates[name] / total == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / total))


def test_the_fate_of_a_token_alone() -> None:
    rows = text(200, 64)
    corrupted = spans(fate="token")(rows, drawn(200))
    mixed = [
        len({ragged(corrupted, "seen").row(number)[i] == MASK for i in run}) == 2
        for number in range(200)
        for run in runs_of(corrupted, number)
        if len(run) > 1
    ]
    assert 0.3 < np.mean(mixed) < 0.9


def test_random_tokens_are_as_frequent_as_in_the_row() -> None:
    row = [CLS, *([7] * 54), *range(100, 106), SEP]
    replaced = spans(mask=0, random=1, keep=0, rate=0.5)(rows_of([row] * 300), drawn(300))
    values = np.concatenate(
        [ragged(replaced, "seen").row(i)[ragged(replaced, "target_positions").row(i)] for i in range(300)]
    )
    assert (values == 7).mean() == pytest.approx(0.9, abs=0.02) and set(values.tolist()) <= set(row[1:-1])
    anywhere = spans(mask=0, random=1, keep=0, random_from="vocabulary")(rows_of([row] * 300), drawn(300))
    assert (ragged(anywhere, "seen").values == 7).mean() < 0.8


def test_a_span_stays_between_special_tokens() -> None:
    rows = rows_of([[CLS, 10, 11, 12, SEP, 20, 21, 22, SEP]] * 200)
    corrupted = spans(rate=0.5, longest=10, p=0.01)(rows, drawn(200))
    assert (ragged(corrupted, "target_ids").lengths == 3).all()
    assert not np.isin(ragged(corrupted, "target_positions").values, [0, 4, 8]).any()


def test_misuse_is_refused() -> None:
    rows = text(2, 8)
    with pytest.raises(ValueError, match="corrupted already"):
        spans()(spans()(rows, drawn(2)), drawn(2))
    with pytest.raises(UserError, match="masked-spans with these settings needs rows with word_start"):
        spans()({"input": rows["input"]}, drawn(2))
    for wrong in ({"rate": 1.0}, {"longest": 0}, {"mask": 0.9}, {"p": 0.0}, {"lengths": "poisson"}):
        with pytest.raises(ValidationError):
            spans(**wrong)
