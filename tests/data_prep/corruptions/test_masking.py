"""Masking: BERT's definition word for word, exact budgets, the same result whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions import masking as module
from data_prep.corruptions.masking import CHOOSE, FATE, RANDOM, MaskingConfig, restore
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Specials, concat, num_rows, ragged, take

PAD, UNK, CLS, SEP, MASK = range(5)
corrupt: Any = module.corrupt  # all columns are Ragged here
SPECIALS = Specials(cls=CLS, sep=SEP, pad=PAD, mask=MASK, unk=UNK, vocabulary=1000, all=frozenset({500}))


def masking(**settings) -> MaskingConfig:
    return MaskingConfig(kind="masked-lm", **settings)


def drawn(count: int, seed: int = 1, epoch: int = 0) -> Draws:
    return Draws(key(seed, "corrupt", "test"), epoch, np.arange(count))


def rows_of(tokens: list, word_start: list | None = None, **columns: list) -> dict[str, Any]:
    word_start = [[1] * len(row) for row in tokens] if word_start is None else word_start
    rows = {"input": Ragged.from_rows(tokens, np.uint16), "word_start": Ragged.from_rows(word_start, np.uint8)}
    return rows | {name: Ragged.from_rows(column, np.uint8) for name, column in columns.items()}


def text(count: int, length: int, seed: int = 0, inside: float = 0.3) -> dict[str, Any]:
    """`count` rows of [CLS] … [SEP], 30 % of whose pieces are inside a word."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(SPECIALS.ordinary, (count, length))
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    return rows_of(list(tokens), list(rng.random((count, length)) >= inside))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(a[name].values, b[name].values)
        and np.array_equal(a[name].offsets, b[name].offsets)
        and a[name].values.dtype == b[name].values.dtype
        for name in a
    )


@st.composite
def batches(draw) -> dict[str, Any]:
    """Rows of 0 … 30 tokens: text, every special and padding, words and phrases of any length."""
    token = st.sampled_from([PAD, UNK, CLS, SEP, MASK, 500, *range(5, 105)])
    tokens = draw(st.lists(st.lists(token, max_size=30), min_size=1, max_size=6))
    starts, phrases = (
        [draw(st.lists(st.integers(0, 1), min_size=len(row), max_size=len(row))) for row in tokens] for _ in range(2)
    )
    return rows_of(tokens, starts, unit=[np.cumsum(row) for row in phrases])


CONFIGS = st.builds(
    masking,
    unit=st.sampled_from(["token", "word", "phrase"]),
    rate=st.floats(0.01, 1),
    max_predictions=st.integers(1, 25),
)


def unit_starts(rows: dict[str, Any], number: int, unit: str) -> list[bool]:
    """Which tokens of a row begin a word or a phrase."""
    if unit != "phrase":
        return (rows["word_start"].row(number) != 0).tolist()
    return (np.diff(rows["unit"].row(number).astype(int), prepend=-1) != 0).tolist()


def reference(row: np.ndarray, starts: list[bool], config: MaskingConfig, draws: Draws, number: int):
    """`create_masked_lm_predictions`, one row, in Python; its shuffle and its coins are keyed."""
    words: list[list[int]] = []
    for position, token in enumerate(row):
        if token in SPECIALS.all:
            continue
        after_special = position == 0 or row[position - 1] in SPECIALS.all
        if config.unit == "token" or starts[position] or after_special:
            words.append([position])
        else:
            words[-1].append(position)
    length = int((row != PAD).sum())
    budget = min(config.max_predictions or 1 << 16, max(1, round(config.rate * length)))
    order = [(int(draws.bits(CHOOSE, word[0], number)) >> 32, place) for place, word in enumerate(words)]
    chosen: list[int] = []
    for _, place in sorted(order):
        if len(chosen) + len(words[place]) <= budget:
            chosen += words[place]
    seen = row.copy()
    for position in chosen:
        fate = draws.uniform(FATE, position, number)
        if fate < config.mask:
            seen[position] = MASK
        elif fate < config.mask + config.random:
            seen[position] = SPECIALS.ordinary[draws.below(len(SPECIALS.ordinary), RANDOM, position, number)]
    return sorted(chosen), seen


@settings(max_examples=150, deadline=None)
@given(batches(), CONFIGS)
def test_it_is_the_definition(rows, config):
    draws = drawn(num_rows(rows))
    corrupted = corrupt(rows, config, SPECIALS, draws)
    for number in range(num_rows(rows)):
        clean, starts = rows["input"].row(number), unit_starts(rows, number, config.unit)
        positions, seen = reference(clean, starts, config, draws, number)
        assert corrupted["target_positions"].row(number).tolist() == positions
        assert corrupted["target_ids"].row(number).tolist() == clean[positions].tolist()
        assert corrupted["seen"].row(number).tolist() == seen.tolist()


def test_a_small_example_is_pinned():
    tokens = [CLS, *range(10, 26), SEP]
    rows = rows_of([tokens, tokens], [[1, 1, 0] * 6] * 2)
    corrupted = corrupt(rows, masking(rate=0.3), SPECIALS, drawn(2))
    assert corrupted["target_positions"].values.tolist() == [1, 4, 6, 10, 16, 1, 3, 8, 10, 13]
    assert corrupted["target_ids"].values.tolist() == [10, 13, 15, 19, 25, 10, 12, 17, 19, 22]
    assert corrupted["seen"].values[corrupted["seen"].values != rows["input"].values].tolist() == [
        4,
        4,
        4,
        4,
        4,
        4,
        4,
        352,
    ]
    words = corrupt(rows, masking(rate=0.3, unit="word"), SPECIALS, drawn(2))
    assert words["target_positions"].values.tolist() == [1, 2, 6, 12, 16, 1, 2, 3, 10, 11]


@settings(deadline=None)
@given(batches(), CONFIGS, st.data())
def test_splitting_reordering_and_joining_change_nothing(rows, config, data):
    count = num_rows(rows)
    draws = drawn(count)
    whole = corrupt(rows, config, SPECIALS, draws)
    index = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    assert same(corrupt(take(rows, index), config, SPECIALS, draws.take(index)), take(whole, index))
    cut = data.draw(st.integers(0, count))
    parts = [np.arange(cut), np.arange(cut, count)]
    joined = concat([corrupt(take(rows, part), config, SPECIALS, draws.take(part)) for part in parts])
    assert same(joined, whole)


@pytest.mark.parametrize("unit", ["token", "word", "phrase"])
def test_chunks_change_nothing(monkeypatch, unit):
    rows, draws = text(50, 30) | {"unit": Ragged.from_rows([np.arange(30) // 3] * 50)}, drawn(50)
    whole = corrupt(rows, masking(unit=unit), SPECIALS, draws)
    monkeypatch.setattr(module, "CHUNK", 70)
    assert same(corrupt(rows, masking(unit=unit), SPECIALS, draws), whole)


@settings(deadline=None)
@given(batches(), CONFIGS)
def test_targets_put_back_give_the_clean_tokens(rows, config):
    before = rows["input"].values.copy()
    corrupted = corrupt(rows, config, SPECIALS, drawn(num_rows(rows)))
    assert np.array_equal(restore(corrupted).values, before)
    assert np.array_equal(rows["input"].values, before)  # nothing changed in place
    assert corrupted["seen"].values.dtype == corrupted["target_ids"].values.dtype == np.uint16
    assert corrupted["target_positions"].values.dtype == np.uint16
    assert corrupted["word_start"] is rows["word_start"]


@settings(deadline=None)
@given(batches(), CONFIGS)
def test_budgets_are_exact_and_specials_and_padding_never_chosen(rows, config):
    corrupted = corrupt(rows, config, SPECIALS, drawn(num_rows(rows)))
    assert not np.isin(corrupted["target_ids"].values, sorted(SPECIALS.all)).any()
    for number in range(num_rows(rows)):
        row, count = rows["input"].row(number), corrupted["target_ids"].lengths[number]
        budget = min(config.max_predictions or 1 << 16, max(1, round(config.rate * (row != PAD).sum())))
        candidates = (~SPECIALS.is_special[row]).sum()
        assert count <= budget
        if config.unit == "token":
            assert count == min(budget, candidates)


@pytest.mark.parametrize(("length", "count"), [(3, 1), (10, 2), (30, 4), (128, 19), (133, 20), (512, 20)])
def test_the_budget_counts_cls_and_sep_and_rounds_halves_to_even(length, count):
    """0.15 · 10 = 1.5 → 2, 0.15 · 30 = 4.5 → 4, and 0.15 · 512 = 77 is held to 20."""
    corrupted = corrupt(text(20, length), masking(), SPECIALS, drawn(20))
    assert (corrupted["target_ids"].lengths == count).all()


def test_padding_does_not_count_towards_the_length():
    rows = rows_of([[CLS, *range(10, 28), SEP] + [PAD] * 80])
    assert corrupt(rows, masking(), SPECIALS, drawn(1))["target_ids"].lengths.tolist() == [3]


def test_eighty_ten_ten():
    rows = text(4000, 128)
    corrupted = corrupt(rows, masking(), SPECIALS, drawn(4000))
    index = np.repeat(corrupted["seen"].offsets[:-1], 19) + corrupted["target_positions"].values
    seen, clean = corrupted["seen"].values[index], corrupted["target_ids"].values
    total = len(clean)
    assert total == 4000 * 19
    masked, kept = (seen == MASK).mean(), (seen == clean).mean()
    assert masked == pytest.approx(0.8, abs=5 * np.sqrt(0.8 * 0.2 / total))
    # one random token in 994 is the token itself
    assert kept == pytest.approx(0.1 + 0.1 / 994, abs=5 * np.sqrt(0.1 * 0.9 / total))
    untouched = np.ones(len(corrupted["seen"].values), bool)
    untouched[index] = False
    assert np.array_equal(corrupted["seen"].values[untouched], rows["input"].values[untouched])


def test_random_tokens_are_uniform_over_the_vocabulary_without_specials():
    """Pure replacement, on rows of one token: what is drawn does not depend on what is there."""
    rows = rows_of([[CLS] + [77] * 126 + [SEP]] * 4000)
    config = masking(mask=0, random=1, keep=0)
    corrupted = corrupt(rows, config, SPECIALS, drawn(4000))
    index = np.repeat(corrupted["seen"].offsets[:-1], 19) + corrupted["target_positions"].values
    counts = np.bincount(corrupted["seen"].values[index], minlength=1000)
    assert counts[sorted(SPECIALS.all)].sum() == 0
    expected = 4000 * 19 / 994
    chi = ((counts[SPECIALS.ordinary] - expected) ** 2 / expected).sum()
    assert abs(chi - 993) < 5 * np.sqrt(2 * 993)


@pytest.mark.parametrize(("shares", "allowed"), [((1, 0, 0), {MASK}), ((0, 0, 1), set(SPECIALS.ordinary.tolist()))])
def test_pure_masking_and_pure_keeping(shares, allowed):
    mask, random, keep = shares
    corrupted = corrupt(text(50, 64), masking(mask=mask, random=random, keep=keep), SPECIALS, drawn(50))
    index = (
        np.repeat(corrupted["seen"].offsets[:-1], corrupted["target_ids"].lengths)
        + corrupted["target_positions"].values
    )
    assert set(corrupted["seen"].values[index].tolist()) <= allowed
    if keep:
        assert np.array_equal(corrupted["seen"].values, restore(corrupted).values)


def test_every_position_is_as_likely():
    corrupted = corrupt(text(20_000, 22), masking(), SPECIALS, drawn(20_000))
    counts = np.bincount(corrupted["target_positions"].values, minlength=22)
    assert counts[0] == counts[21] == 0
    expected = 20_000 * 3 / 20
    assert np.abs(counts[1:21] - expected).max() < 5 * np.sqrt(expected * (1 - 3 / 20))


def test_epochs_and_seeds_choose_anew():
    rows = text(200, 128)
    first, *others = (
        corrupt(rows, masking(), SPECIALS, draws)["target_positions"].values
        for draws in (drawn(200), drawn(200, epoch=1), drawn(200, seed=2))
    )
    assert all((first == other).mean() < 0.1 for other in others)


@settings(deadline=None)
@given(batches(), CONFIGS, st.sampled_from(["word", "phrase"]))
def test_units_stay_together(rows, config, unit):
    config = config.model_copy(update={"unit": unit})
    corrupted = corrupt(rows, config, SPECIALS, drawn(num_rows(rows)))
    for number in range(num_rows(rows)):
        row, starts = rows["input"].row(number), unit_starts(rows, number, unit)
        chosen = set(corrupted["target_positions"].row(number).tolist())
        for position in range(1, len(row)):
            both_text = row[position] not in SPECIALS.all and row[position - 1] not in SPECIALS.all
            if both_text and not starts[position]:
                assert (position in chosen) == (position - 1 in chosen)


def test_a_word_that_would_exceed_the_budget_is_skipped_and_a_shorter_one_taken():
    """Budget 3, words of 4, 2, 1 and 4: only the two short ones ever fit, and both always do."""
    tokens = [CLS, *range(10, 21), SEP]
    starts = [1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1]
    config = masking(unit="word", rate=0.25)
    corrupted = corrupt(rows_of([tokens] * 200, [starts] * 200), config, SPECIALS, drawn(200))
    assert (corrupted["target_positions"].values.reshape(200, 3) == [5, 6, 7]).all()


def test_a_budget_that_no_word_fits_gives_no_target():
    rows = rows_of([[CLS, 10, 11, 12, 13, SEP]], [[1, 1, 0, 1, 0, 1]])
    assert corrupt(rows, masking(unit="word"), SPECIALS, drawn(1))["target_ids"].lengths.tolist() == [0]


def test_words_of_one_piece_are_tokens():
    rows = text(50, 64, inside=0)
    by_word = corrupt(rows, masking(unit="word"), SPECIALS, drawn(50))
    assert same(by_word, corrupt(rows, masking(), SPECIALS, drawn(50)))


def test_phrases_of_one_word_are_words():
    rows = text(50, 64)
    rows["unit"] = Ragged.from_rows([np.cumsum(row) for row in np.split(rows["word_start"].values, 50)])
    by_phrase = corrupt(rows, masking(unit="phrase"), SPECIALS, drawn(50))
    assert same(by_phrase, corrupt(rows, masking(unit="word"), SPECIALS, drawn(50)))


def test_words_are_masked_in_a_share_of_the_rows_of_phrases():
    rows = text(400, 64)
    rows["unit"] = Ragged.from_rows([np.arange(64) // 6] * 400)
    words, phrases, both = (
        corrupt(rows, masking(**options), SPECIALS, drawn(400))["target_positions"]
        for options in ({"unit": "word"}, {"unit": "phrase"}, {"unit": "phrase", "basic": 0.3})
    )
    basic = [np.array_equal(both.row(i), words.row(i)) for i in range(400)]
    assert np.mean(basic) == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 400))
    assert all(np.array_equal(both.row(i), phrases.row(i)) for i in range(400) if not basic[i])
    with pytest.raises(UserError, match="masked-lm with these settings needs rows with word_start"):
        corrupt(
            {name: rows[name] for name in ("input", "unit")}, masking(unit="phrase", basic=0.5), SPECIALS, drawn(400)
        )
    with pytest.raises(ValidationError, match="basic is a share of rows beside those of unit phrase"):
        masking(unit="word", basic=0.5)


def test_a_phrase_does_not_reach_over_the_border_of_sequences():
    """Each sequence numbers its units anew."""
    rows = rows_of([[10, 11]] * 50, sequence=[[0, 1]] * 50, unit=[[0, 0]] * 50)
    corrupted = corrupt(rows, masking(unit="phrase"), SPECIALS, drawn(50))
    assert (corrupted["target_positions"].values.reshape(50, 2) == [0, 1]).all()


def test_the_fate_is_drawn_per_piece():
    """Among words of two pieces, masked and unmasked pieces mix as independent draws would."""
    tokens = [[CLS, *([50, 51] * 63), SEP]] * 2000
    corrupted = corrupt(rows_of(tokens, [[1] + [1, 0] * 63 + [1]] * 2000), masking(unit="word"), SPECIALS, drawn(2000))
    index = (
        np.repeat(corrupted["seen"].offsets[:-1], corrupted["target_ids"].lengths)
        + corrupted["target_positions"].values
    )
    masked = (corrupted["seen"].values[index] == MASK).reshape(-1, 2)
    mixed = (masked[:, 0] != masked[:, 1]).mean()
    assert mixed == pytest.approx(2 * 0.8 * 0.2, abs=5 * np.sqrt(0.32 * 0.68 / len(masked)))


@pytest.mark.parametrize("unit", ["token", "word"])
def test_each_sequence_of_a_row_has_its_own_budget(unit):
    first, second = [CLS, *range(10, 28), SEP], [CLS, *range(10, 48), SEP]
    rows = rows_of([first + second] * 100, sequence=[[0] * 20 + [1] * 40] * 100)
    corrupted = corrupt(rows, masking(unit=unit), SPECIALS, drawn(100))
    positions = corrupted["target_positions"]
    of_first = positions.values < 20
    assert (np.bincount(positions.row_index()[of_first]) == 3).all()
    assert (np.bincount(positions.row_index()[~of_first]) == 6).all()
    assert (corrupt(rows_of([first + second] * 100), masking(), SPECIALS, drawn(100))["target_ids"].lengths == 9).all()


def test_a_word_does_not_reach_over_the_border_of_sequences():
    rows = rows_of([[10, 11]] * 50, [[1, 0]] * 50, sequence=[[0, 1]] * 50)
    corrupted = corrupt(rows, masking(unit="word"), SPECIALS, drawn(50))
    assert (corrupted["target_positions"].values.reshape(50, 2) == [0, 1]).all()  # one token each


def test_the_longest_row_and_no_rows():
    rows = rows_of([np.full(1 << 16, 9)])
    corrupted = corrupt(rows, masking(max_predictions=100_000), SPECIALS, drawn(1))
    assert corrupted["target_ids"].lengths.tolist() == [round(0.15 * (1 << 16))]
    assert np.array_equal(restore(corrupted).values, rows["input"].values)
    with pytest.raises(ValueError, match="longer than 65536"):
        corrupt(rows_of([np.full((1 << 16) + 1, 9)]), masking(), SPECIALS, drawn(1))
    empty = corrupt(take(rows, []), masking(), SPECIALS, Draws(1, 0, []))
    assert num_rows(empty) == 0 and ragged(empty, "target_ids").values.dtype == np.uint16


def test_misuse_is_refused():
    rows = text(2, 8)
    corrupted = corrupt(rows, masking(), SPECIALS, drawn(2))
    with pytest.raises(ValueError, match="corrupted already"):
        corrupt(corrupted, masking(), SPECIALS, drawn(2))
    with pytest.raises(ValueError, match=r"(?<![\d.,])2 rows need as many samples, not 3"):
        corrupt(rows, masking(), SPECIALS, drawn(3))
    with pytest.raises(UserError, match="word_start"):
        corrupt({"input": rows["input"]}, masking(unit="word"), SPECIALS, drawn(2))
    with pytest.raises(UserError, match="masked-lm with these settings needs rows with unit"):
        corrupt(rows, masking(unit="phrase"), SPECIALS, drawn(2))


@pytest.mark.parametrize("wrong", [{"mask": 0.9}, {"rate": 0}, {"max_predictions": 0}, {"unit": "span"}, {"extra": 1}])
def test_configs_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        masking(**wrong)
