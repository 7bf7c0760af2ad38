"""Regrouping by length: the same rows in an epoch, in windows, without a bias, and with less padding."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.order import Location, Order, OrderCorpus


def order(rows: int, seed: int = 0) -> Order:
    return Order([OrderCorpus("a", rows)], seed, block=1, window=1 << 30)


def lengths_of(rows: int, seed: int = 0, most: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, most, rows)


def by_row(lengths: np.ndarray) -> Callable[[int, np.ndarray], np.ndarray]:
    return lambda corpus, rows: lengths[rows]


CASES = {
    "rows": st.integers(1, 40),
    "batch": st.integers(1, 20),
    "window": st.integers(1, 9),
    "seed": st.integers(0, 5),
}


@settings(max_examples=25, deadline=None)
@given(**CASES)
def test_every_row_comes_once_in_an_epoch(rows: int, batch: int, window: int, seed: int) -> None:
    buckets = LengthBuckets(order(rows, seed), by_row(lengths_of(rows, seed)), batch, window, seed)
    located = buckets.locate(np.arange(3 * rows))
    assert located.epoch.tolist() == np.repeat(np.arange(3), rows).tolist() and not located.corpus.any()
    for epoch in range(3):
        assert sorted(located.row[located.epoch == epoch].tolist()) == list(range(rows))


@settings(max_examples=25, deadline=None)
@given(**CASES, cuts=st.lists(st.integers(0, 100), max_size=4))
def test_any_samples_may_be_asked_for_in_any_pieces(
    rows: int, batch: int, window: int, seed: int, cuts: list[int]
) -> None:
    buckets = LengthBuckets(order(rows, seed), by_row(lengths_of(rows, seed)), batch, window, seed)
    samples = np.arange(100)
    whole = buckets.locate(samples)
    parts = [buckets.locate(part) for part in np.split(samples, sorted(cuts)) if len(part)]
    for name in ("corpus", "epoch", "row"):
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(whole, name).tolist()
    shuffled = np.random.default_rng(seed).permutation(samples)
    assert np.array_equal(buckets.locate(shuffled).row, whole.row[shuffled])


def by_definition(rows: int, batch: int, window: int, seed: int, steps: int) -> list[list[list[int]]]:
    """Windows of batches: of each, what rows it has in the plain order. Batches across epochs are windows of one."""
    plain = order(rows, seed).locate(np.arange(steps * batch))
    batches = [(plain.epoch[a : a + batch], plain.row[a : a + batch].tolist()) for a in range(0, steps * batch, batch)]
    windows: list[list[list[int]]] = []
    last = None
    for epochs, members in batches:
        epoch = epochs[0] if epochs[0] == epochs[-1] else None
        if epoch is None or epoch != last or len(windows[-1]) == window:
            windows.append([])
        windows[-1].append(members)
        last = epoch
    return windows


@settings(max_examples=25, deadline=None)
@given(**CASES)
def test_windows_are_sorted_and_cut(rows: int, batch: int, window: int, seed: int) -> None:
    lengths, steps = lengths_of(rows, seed), 16
    buckets = LengthBuckets(order(rows, seed), by_row(lengths), batch, window, seed)
    batches = buckets.locate(np.arange(steps * batch)).row.reshape(steps, batch).tolist()
    place = 0
    windows = by_definition(rows, batch, window, seed, steps)
    for number, members in enumerate(windows):
        mine, place = batches[place : place + len(members)], place + len(members)
        if number == len(windows) - 1 and len(members) < window:
            break  # it goes on behind the last step
        assert sorted(sum(mine, [])) == sorted(sum(members, []))  # noqa: RUF017
        if len(members) == 1 and batch > 1 and mine == members:
            continue  # a batch across epochs
        ranges = sorted((lengths[rows_].min(), lengths[rows_].max()) for rows_ in mine)
        assert all(high <= low for (_, high), (low, _) in pairwise(ranges))
        assert all(lengths[rows_].tolist() == sorted(lengths[rows_].tolist()) for rows_ in mine)


def test_every_row_is_in_every_place_equally_often() -> None:
    """Over many seeds: the first batch of an epoch has short and long rows as often as any other."""
    rows, batch, seeds = 14, 4, 500
    lengths = np.arange(rows)
    counts = np.zeros((rows, 2 * rows))
    for seed in range(seeds):
        row_numbers = LengthBuckets(order(rows, seed), by_row(lengths), batch, 3, seed).locate(np.arange(2 * rows)).row
        steps = np.arange(2 * rows) // batch * batch  # rows rise within a batch, so its places are taken together
        counts[row_numbers, steps] += 1
    sizes = np.bincount(np.arange(2 * rows) // batch * batch, minlength=2 * rows)
    expected = seeds * sizes / rows
    used = sizes > 0
    # a batch across epochs may hold a row twice, which leaves the mean and adds to the variance
    assert (np.abs(counts - expected)[:, used] < 6 * np.sqrt(expected[used])).all()


def test_batches_of_a_window_do_not_come_by_length() -> None:
    rows, batch = 6400, 32
    lengths = lengths_of(rows)
    batches = LengthBuckets(order(rows), by_row(lengths), batch, 50, 0).locate(np.arange(rows)).row.reshape(-1, batch)
    longest = lengths[batches].max(1)
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2
    first = [
        lengths[LengthBuckets(order(rows, seed), by_row(lengths), batch, 50, seed).locate(np.arange(batch)).row].mean()
        for seed in range(40)
    ]
    assert np.std(first) > 10  # not always the shortest, nor the longest


def test_little_is_padding() -> None:
    rows, batch = 1600, 32
    lengths = lengths_of(rows)

    def padding(located: np.ndarray) -> float:
        each = lengths[located].reshape(-1, batch)
        return 1 - each.sum() / (each.max(1) * batch).sum()

    plain = padding(order(rows).locate(np.arange(rows)).row)
    shares = [
        padding(LengthBuckets(order(rows), by_row(lengths), batch, window, 0).locate(np.arange(rows)).row)
        for window in (2, 10, 50)
    ]
    assert plain > 0.4 > shares[0] > shares[1] > shares[2] and shares[2] < 0.03


def test_log_normal_lengths_leave_little_padding() -> None:
    """Lengths as those of speech: what is padding as drawn is mostly gone, also in a mixture."""
    rng = np.random.default_rng(0)
    by_corpus = [np.clip(rng.lognormal(4, 0.8, rows), 1, 2000).astype(int) for rows in (3000, 1000)]
    corpora = [OrderCorpus(name, len(lengths), len(lengths)) for name, lengths in zip("ab", by_corpus, strict=True)]
    for mixed in ([corpora[0]], corpora):
        plain = Order(mixed, 0, block=1, window=1 << 30)
        buckets = LengthBuckets(plain, lambda corpus, rows: by_corpus[corpus][rows], 32, 64, 0)
        samples = np.arange(64 * 32)

        def padding(located: Location) -> float:
            each = np.array([by_corpus[corpus][row] for corpus, _, row in zip(*located, strict=True)]).reshape(-1, 32)
            return 1 - each.sum() / (each.max(1) * 32).sum()

        assert padding(plain.locate(samples)) > 0.6 and padding(buckets.locate(samples)) < 0.08


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 12), window=st.integers(1, 6), seed=st.integers(0, 5), cut=st.integers(0, 200))
def test_a_mixture_keeps_its_samples_in_any_pieces(batch: int, window: int, seed: int, cut: int) -> None:
    """Each window holds the samples that the order gives it: corpus, epoch and row together."""
    lengths = [lengths_of(rows, seed) for rows in (23, 7)]
    plain = Order([OrderCorpus("a", 23, 3.0), OrderCorpus("b", 7, 1.0)], seed, block=1, window=1 << 30)
    buckets = LengthBuckets(plain, lambda corpus, rows: lengths[corpus][rows], batch, window, seed)
    count = 3 * window * batch
    whole = buckets.locate(np.arange(count))
    for start in range(0, count, window * batch):
        samples_of_window = slice(start, start + window * batch)
        before = zip(*(part[samples_of_window].tolist() for part in plain.locate(np.arange(count))), strict=True)
        assert sorted(zip(*(part[samples_of_window].tolist() for part in whole), strict=True)) == sorted(before)
    samples = np.arange(min(cut, count), count)
    again = LengthBuckets(plain, lambda corpus, rows: lengths[corpus][rows], batch, window, seed).locate(samples)
    assert all(np.array_equal(part, all_[samples]) for part, all_ in zip(again, whole, strict=True))


def test_golden() -> None:
    lengths = np.array([5, 3, 8, 1, 9, 2, 7, 4, 6, 10, 11])
    row_numbers = LengthBuckets(order(11, 3), by_row(lengths), 3, 3, 3).locate(np.arange(15)).row
    assert row_numbers.tolist() == [3, 5, 7, 0, 8, 2, 4, 9, 10, 1, 6, 0, 3, 5, 1]
    assert lengths[row_numbers].reshape(-1, 3).tolist() == [[1, 2, 4], [5, 6, 8], [9, 10, 11], [3, 7, 5], [1, 2, 3]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LengthBuckets(order(3), by_row(np.array([1, 2, 3])), 2, 0, 0)
