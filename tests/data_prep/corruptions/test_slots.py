"""Slots drawn with replacement: ELECTRA's numbers, its 14.0 %, and no random tokens."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corruptions import slots as module
from data_prep.corruptions.slots import FATE, SLOT, SlotsConfig
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, num_rows
from tests.data_prep.corruptions.test_masking import CLS, MASK, PAD, SEP, SPECIALS, batches, drawn, rows_of, text

build: Any = module.build  # all columns are Ragged here
GOLDEN = ([1, 3, 3, 7, 15], [CLS, MASK, 11, MASK, *range(13, 24), MASK, 25, SEP])


def slots(**options) -> SlotsConfig:
    return SlotsConfig(kind="masked-slots", **options)


def reference(row: np.ndarray, config: SlotsConfig, draws: Draws, number: int) -> tuple[list[int], np.ndarray]:
    """One row in plain Python: positions of the slots, and what is seen."""
    candidates = [place for place, token in enumerate(row) if token not in SPECIALS.all]
    count = max(1, round(config.rate * int((row != PAD).sum())))
    count = min(count, config.max_predictions or count) if candidates else 0
    seen, chosen = row.copy(), []
    for slot in range(count):
        chosen.append(candidates[draws.below(len(candidates), SLOT, slot, number)[()]])
        if draws.uniform(FATE, slot, number) < config.mask:
            seen[chosen[-1]] = MASK
    return sorted(chosen), seen


@settings(max_examples=100, deadline=None)
@given(batches(), st.floats(0.01, 1), st.one_of(st.none(), st.integers(1, 25)), st.sampled_from([0.0, 0.85, 1.0]))
def test_it_is_the_definition(rows: dict[str, Any], rate: float, most: int | None, mask: float) -> None:
    config, draws = slots(rate=rate, max_predictions=most, mask=mask), drawn(num_rows(rows))
    corrupted = build(config, SPECIALS)(rows, draws)
    for number in range(num_rows(rows)):
        clean = rows["input"].row(number)
        positions, seen = reference(clean, config, draws, number)
        assert corrupted["target_positions"].row(number).tolist() == positions
        assert corrupted["target_ids"].row(number).tolist() == clean[positions].tolist()
        assert corrupted["seen"].row(number).tolist() == seen.tolist()


def test_a_small_example_is_pinned() -> None:
    rows = rows_of([[CLS, *range(10, 26), SEP], [CLS, SEP, PAD], []])
    corrupted = build(slots(rate=0.3), SPECIALS)(rows, drawn(3))
    assert corrupted["target_positions"].lengths.tolist() == [5, 0, 0]
    assert corrupted["seen"].row(1).tolist() == [CLS, SEP, PAD]
    assert corrupted["target_positions"].row(0).tolist() == GOLDEN[0]
    assert corrupted["seen"].row(0).tolist() == GOLDEN[1]


@pytest.mark.parametrize(
    ("length", "most", "number"), [(128, 19, 19), (64, 9, 9), (64, None, 10), (30, 19, 4), (2, 9, 1)]
)
def test_the_number_of_slots_counts_special_tokens_and_no_padding(length: int, most: int | None, number: int) -> None:
    """int(0.155 · 64) is less than round(0.15 · 64); 4.5 is rounded to even."""
    row = [CLS, *[10] * (length - 1), *[PAD] * 40]
    corrupted = build(slots(max_predictions=most), SPECIALS)(rows_of([row]), drawn(1))
    assert len(corrupted["target_ids"].values) == number


def test_the_published_shares() -> None:
    rows = text(2000, 128)
    corrupted = build(slots(max_predictions=19), SPECIALS)(rows, drawn(2000))
    positions, seen, clean = corrupted["target_positions"], corrupted["seen"].values, rows["input"].values
    flat = positions.row_index() * 128 + positions.values
    distinct = np.unique(flat)
    assert len(flat) == 2000 * 19
    # Of 126 candidates 19 draws hit 126·(1 − (1 − 1/126)¹⁹) = 17.7, and the slots themselves are 14.8 % of 128.
    assert len(distinct) / 2000 == pytest.approx(126 * (1 - (125 / 126) ** 19), rel=0.01)
    assert 0.136 < len(distinct) / len(clean) < 0.142
    changed = np.flatnonzero(seen != clean)
    assert (seen[changed] == MASK).all() and np.isin(changed, distinct).all()
    once = np.isin(distinct, np.flatnonzero(np.bincount(flat, minlength=len(clean)) == 1))
    assert (seen[distinct[once]] == MASK).mean() == pytest.approx(0.85, abs=0.01)
    assert (seen[distinct[~once]] == MASK).mean() == pytest.approx(1 - 0.15**2, abs=0.02)  # one of two suffices
    places = np.bincount(positions.values, minlength=128)
    assert places[0] == places[127] == 0 and places[1:127].std() / places[1:127].mean() < 0.1


def test_sequences_of_a_row_have_slots_of_their_own() -> None:
    rows = rows_of([[CLS, *[10] * 19, CLS, *[11] * 39]], sequence=[[0] * 20 + [1] * 40])
    corrupted = build(slots(), SPECIALS)(rows, drawn(1))
    assert corrupted["target_ids"].values.tolist() == [10] * 3 + [11] * 6


def test_five_million_tokens_a_second() -> None:
    rows, draws = text(4000, 128), drawn(4000)
    build(slots(), SPECIALS)(rows, draws)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        build(slots(), SPECIALS)(rows, draws)
        seconds.append(time.process_time() - began)
    assert 4000 * 128 / min(seconds) > 2.5e6  # half of what is measured where nothing else runs


def test_rows_that_are_corrupted_already_are_refused() -> None:
    rows = build(slots(), SPECIALS)(text(2, 20), drawn(2))
    with pytest.raises(ValueError, match="corrupted already"):
        build(slots(), SPECIALS)(rows, drawn(2))
    with pytest.raises(ValueError, match="need as many samples"):
        build(slots(), SPECIALS)({"input": Ragged.from_rows([[7, 8]], np.uint16)}, drawn(2))
