"""Keyed draws: their definition, pinned; their independence of the batch; their distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.rng import Draws, absorb, key, multiply_high

MASK = 2**64 - 1
WORDS = st.integers(0, MASK)


def reference_absorb(state: int, word: int) -> int:
    """The definition, in Python integers."""
    z = (state + 0x9E3779B97F4A7C15 * (word + 1)) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_keys_are_pinned():
    assert key(0, "") == 0x09A9CD4D7C227134
    assert key(1, "corrupt", "books") == 0x3A69E88178A8CF95
    assert key(1, "corrupt") == 0xA276C7B524515EFB


def test_bits_are_pinned():
    draws = Draws(key(1, "corrupt", "books"), 0, [0, 1, 10**12])
    assert draws.bits(0).tolist() == [0xF06891945FAC298C, 0xFA3C9151AA7CA125, 0xAE232B19B245E445]
    flat = draws.bits(3, position=[5, 0, 0], row=[2, 0, 1])
    assert flat.tolist() == [0x0E42738DC32DD4A6, 0x4B48FC2977D943F2, 0x1A8A391AEE959F8C]
    assert draws.below(10, 2).tolist() == [8, 9, 5]
    assert draws.uniform(1) == pytest.approx([0.09801692, 0.26578415, 0.71456859], abs=1e-8)


def test_absorb_steps_splitmix64():
    """The published first outputs of SplitMix64 seeded with 1234567."""
    assert absorb(1234567, np.arange(3)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(WORDS, st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 255), st.integers(0, 2**40))
def test_bits_follow_the_definition(seed, epoch, sample, draw, position):
    expected = seed
    for word in (epoch, sample, draw, position):
        expected = reference_absorb(expected, word)
    assert Draws(seed, epoch, sample).bits(draw, position).tolist() == [expected]


def test_parts_of_a_key_are_kept_apart():
    names = [(1, "ab", "c"), (1, "a", "bc"), (1, "abc", ""), (1, "", "abc"), (11, "b", "c"), (1, "1b", "c")]
    assert len({key(*name) for name in names}) == len(names)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 5)), min_size=1, max_size=8), st.data())
def test_a_draw_does_not_depend_on_its_batch(samples, data):
    sample, epoch = np.array(samples).T
    draws = Draws(7, epoch, sample)
    index = np.array(data.draw(st.lists(st.integers(0, len(samples) - 1), min_size=1, max_size=9)))
    assert (draws.bits(3, 5)[index] == Draws(7, epoch[index], sample[index]).bits(3, 5)).all()
    assert (draws.bits(3, 5)[index] == draws.take(index).bits(3, 5)).all()
    assert (draws.bits(3, 5)[index] == draws.bits(3, 5, row=index)).all()
    assert len(draws) == len(samples)


def test_positions_and_rows_broadcast():
    draws = Draws(7, 0, np.arange(4))
    table = draws.bits(1, np.arange(6), np.arange(4)[:, None])
    assert table.shape == (4, 6)
    assert (table[:, 2] == draws.bits(1, 2)).all()
    assert (table[3] == draws.bits(1, np.arange(6), 3)).all()
    assert (draws.bits(1, np.arange(4)) == np.diag(table[:, :4])).all()


def test_names_that_differ_give_different_bits():
    """Streams, corpora, epochs, samples, draws and positions: no two of 30,000 draws are equal."""
    bits = [
        Draws(key(1, stream, corpus), epoch, np.arange(25)).bits(draw, np.arange(10), np.arange(25)[:, None])
        for stream in ("a", "b")
        for corpus in ("", "x", "y")
        for epoch in range(5)
        for draw in range(4)
    ]
    assert len(np.unique(bits)) == 2 * 3 * 5 * 4 * 250


@given(st.lists(WORDS, min_size=1, max_size=20), st.integers(1, 2**63))
def test_multiply_high_is_exact(bits, n):
    assert multiply_high(np.array(bits, np.uint64), n).tolist() == [b * n >> 64 for b in bits]


def test_below_takes_a_bound_per_draw():
    draws = Draws(3, 0, np.arange(10_000))
    bound = np.arange(10_000) % 5 + 1
    values = draws.below(bound, 0)
    assert values.dtype == np.int64 and (values >= 0).all() and (values < bound).all()
    assert np.bincount(values[bound == 5], minlength=5).min() > 300  # of 2,000, 400 expected


def test_values_are_uniform_and_neighbours_independent():
    uniform = Draws(3, 0, np.arange(1000)).uniform(0, np.arange(200), np.arange(1000)[:, None])
    assert uniform.min() >= 0 and uniform.max() < 1
    cells = np.bincount((uniform.ravel() * 100).astype(int), minlength=100)
    assert ((cells - 2000) ** 2 / 2000).sum() < 99 + 5 * np.sqrt(2 * 99)
    for left, right in ((uniform[:, 1:], uniform[:, :-1]), (uniform[1:], uniform[:-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 5 / np.sqrt(left.size)


def test_each_bit_is_fair():
    bits = Draws(5, 2, np.arange(20_000)).bits(1)
    ones = np.array([(bits >> np.uint64(bit) & np.uint64(1)).sum() for bit in range(64)], float)
    assert np.abs(ones - 10_000).max() < 5 * np.sqrt(5000)
