"""Packing: every sequence in exactly one row, best fit word for word, little padding, budgets of each sequence."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corruptions.masking import MaskingConfig, corrupt
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows, ragged, take
from data_prep.tokens.packing import SHORTEST, best_fit, pack, sequence_dtype

SPECIALS = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=60_000)
LENGTHS = st.lists(st.integers(3, 40), max_size=60)


def sequences(lengths) -> Rows:
    """[CLS] … [SEP] of these lengths; their text and their document are their number."""
    lengths = np.asarray(lengths, np.int64)
    number = Ragged.from_lengths(np.repeat(np.arange(len(lengths)), lengths), lengths)
    tokens = (10 + number.values).astype(np.uint16)
    tokens[number.offsets[:-1]], tokens[number.offsets[1:] - 1] = SPECIALS.cls, SPECIALS.sep
    return {
        "input": Ragged(tokens, number.offsets),
        "word_start": Ragged((number.positions() % 3 != 1).astype(np.uint8), number.offsets),
        "document": np.arange(len(lengths), dtype=np.uint32),
        "label": (np.arange(len(lengths)) % 2).astype(np.uint8),
    }


def naive(lengths: list[int], room: int) -> list[int]:
    """Best fit decreasing as it is defined, looking at every row each time; the latest used of equals."""
    left: list[int] = []
    used: list[int] = []
    row = [0] * len(lengths)
    for step, place in enumerate(sorted(range(len(lengths)), key=lambda i: -lengths[i])):
        fitting = [r for r in range(len(left)) if left[r] >= lengths[place]]
        if fitting:
            chosen = min(fitting, key=lambda r: (left[r], -used[r]))
        else:
            chosen = len(left)
            left.append(room)
            used.append(step)
        left[chosen] -= lengths[place]
        used[chosen] = step
        row[place] = chosen
    order = list(dict.fromkeys(row))
    return [order.index(r) for r in row]


@settings(deadline=None)
@given(LENGTHS, st.integers(40, 100))
def test_it_is_best_fit_decreasing(lengths, room):
    assert best_fit(np.array(lengths, np.int64), room).tolist() == naive(lengths, room)


@settings(deadline=None)
@given(LENGTHS, st.integers(40, 100))
def test_rows_hold_at_most_their_room_and_no_two_could_be_one(lengths, room):
    row = best_fit(np.array(lengths, np.int64), room)
    full = np.sort(np.bincount(row, weights=lengths))
    assert (full <= room).all()
    assert len(full) < 2 or full[0] + full[1] > room


@settings(deadline=None)
@given(LENGTHS, st.integers(40, 100))
def test_every_sequence_appears_exactly_once_and_whole(lengths, room):
    rows = sequences(lengths)
    packed = pack(rows, room)
    documents, label = ragged(packed, "document"), ragged(packed, "label")
    assert sorted(documents.values.tolist()) == list(range(len(lengths)))
    assert (label.values == documents.values % 2).all()
    assert documents.values.dtype == np.uint32 and label.values.dtype == np.uint8
    for number in range(num_rows(packed)):
        inside = documents.row(number).tolist()
        assert inside == sorted(inside)
        sequence = ragged(packed, "sequence").row(number)
        assert sorted(set(sequence.tolist())) == list(range(len(inside)))
        for place, document in enumerate(inside):
            for name in ("input", "word_start"):
                tokens = ragged(packed, name).row(number)[sequence == place]
                assert tokens.tolist() == ragged(rows, name).row(document).tolist()
    firsts = [documents.row(number)[0] for number in range(num_rows(packed))]
    assert firsts == sorted(firsts)


def test_a_small_example_is_pinned():
    packed = pack(sequences([7, 5, 3, 4, 10]), 10)
    assert [row.tolist() for row in map(ragged(packed, "document").row, range(3))] == [[0, 2], [1, 3], [4]]
    assert ragged(packed, "sequence").row(1).tolist() == [0] * 5 + [1] * 4
    assert ragged(packed, "input").row(0).tolist() == [2, 10, 10, 10, 10, 10, 3, 2, 12, 3]


def test_sequence_numbers_fit_whatever_the_rows_hold():
    for length, wanted in ((8, np.uint8), (128, np.uint8), (770, np.uint8), (771, np.uint16), (8192, np.uint16)):
        assert sequence_dtype(length) == wanted
        packed = pack(sequences([SHORTEST] * (length // SHORTEST)), length)
        assert num_rows(packed) == 1
        assert ragged(packed, "sequence").values[-1] == length // SHORTEST - 1
        assert ragged(pack(sequences([]), length), "sequence").values.dtype == wanted


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="of 41 tokens does not fit into a row of 40"):
        pack(sequences([3, 41]), 40)
    with pytest.raises(ValueError, match="of 2 tokens is shorter than 3"):
        pack(sequences([3, 2]), 40)


def fewest(lengths: np.ndarray, room: int) -> int:
    """Rows that any packing needs at least (Martello and Toth 1990, bound L2)."""
    count = np.bincount(lengths, minlength=room + 1)
    tokens, half = count * np.arange(room + 1), room // 2 + 1
    bounds = []
    for least in range(half):  # those so long that none of `least` fits beside them; others over half; the rest
        over_half = slice(half, room - least + 1)
        beside = count[over_half].sum() * room - tokens[over_half].sum()
        more = max(0, -(-(tokens[least:half].sum() - beside) // room))
        bounds.append(count[half:].sum() + more)
    return int(max(bounds))


@pytest.mark.parametrize("room", [128, 512])
def test_hardly_more_rows_than_any_packing_needs(room):
    random = np.random.default_rng(0)
    full, ends = np.full(6000, room), random.integers(5, room, 1500)
    short = np.clip(random.lognormal(3.3, 0.6, 20_000), 3, room).astype(np.int64)
    for lengths in (np.concatenate([full, ends]), short, np.concatenate([full, short])):
        rows = int(best_fit(lengths, room).max()) + 1
        assert fewest(lengths, room) <= rows <= 1.003 * fewest(lengths, room)
        assert 1 - lengths.sum() / (rows * room) < 0.01


def test_a_million_tokens_are_packed_in_a_blink():
    lengths = np.random.default_rng(0).integers(3, 60, 32_000)
    began = time.process_time()  # of this process, whatever else the cores do
    best_fit(lengths, 128)
    assert time.process_time() - began < 2  # 0.03 s; comparing all pairs takes minutes


@settings(deadline=None)
@given(LENGTHS.filter(bool), st.sampled_from(["token", "word"]))
def test_each_sequence_keeps_its_budget(lengths, unit):
    """As many targets as it would have in a row of its own, where each word is one piece."""
    rows = sequences(lengths) | {"word_start": Ragged.from_rows([[1] * n for n in lengths], np.uint8)}
    config = MaskingConfig(kind="masked-lm", unit=unit, max_predictions=4)
    packed = pack(rows, 64)
    masked = corrupted(packed, config)
    targets = ragged(masked, "target_positions")
    place = ragged(packed, "input").offsets[:-1][targets.row_index()] + targets.values
    sequence = ragged(packed, "sequence")
    document = ragged(packed, "document")
    owner = document.values[document.offsets[:-1][sequence.row_index()] + sequence.values]
    apart = ragged(corrupted(rows, config), "target_ids").lengths
    assert np.bincount(owner[place], minlength=len(lengths)).tolist() == apart.tolist()


def test_packed_rows_are_corrupted_alike_in_any_batch():
    packed = pack(sequences(np.random.default_rng(0).integers(3, 60, 300)), 64)
    config = MaskingConfig(kind="masked-lm")
    whole, index = corrupted(packed, config), np.array([5, 0, 17, 17])
    draws = Draws(key(1, "corrupt"), 0, np.arange(num_rows(packed)))
    part = corrupt(take(packed, index), config, SPECIALS, draws.take(index))
    for name in ("seen", "target_positions", "target_ids"):
        wanted = ragged(take(whole, index), name)
        assert np.array_equal(ragged(part, name).values, wanted.values)
        assert np.array_equal(ragged(part, name).offsets, wanted.offsets)


def corrupted(rows: Rows, config: MaskingConfig) -> Rows:
    return corrupt(rows, config, SPECIALS, Draws(key(1, "corrupt"), 0, np.arange(num_rows(rows))))
