"""The order of samples: bijective, bounded, exact, the same for any number of workers."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards import order
from data_prep.shards.order import Order, OrderCorpus, permute, quotas, rank_slice


def single(rows: int, block: int = 64, window: int = 1024, seed: int = 1) -> Order:
    return Order([OrderCorpus("a", rows)], seed, block, window)


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(n, key):
    assert (np.sort(permute(np.arange(n), n, key)) == np.arange(n)).all()


def test_permute_is_pinned():
    assert permute(np.arange(100), 100, 7)[:8].tolist() == [56, 86, 99, 37, 7, 77, 66, 6]
    assert permute(np.arange(3), 2**62, 7).tolist() == [1164343057248150506, 2635699567235424324, 2280871043909805142]


def test_permute_reaches_every_order_equally_often():
    """All 120 orders of five things, chi-squared over 48,000 keys."""
    orders = Counter(map(bytes, permute(np.arange(5)[None], 5, np.arange(48_000)[:, None]).astype(np.uint8)))
    counts = np.array(list(orders.values()))
    assert len(counts) == 120
    assert ((counts - 400) ** 2 / 400).sum() < 119 + 5 * np.sqrt(2 * 119)


def test_permute_has_no_memory_of_its_input():
    image = permute(np.arange(100_000), 10**6, 3)
    assert abs(np.corrcoef(np.arange(100_000), image)[0, 1]) < 5 / np.sqrt(100_000)
    assert len(np.unique(image)) == 100_000


def test_permute_takes_bounds_and_keys_element_by_element():
    i, n, key = np.array([3, 0, 99, 5]), np.array([10, 1, 100, 2**40]), np.array([1, 2, 3, 4])
    assert permute(i, n, key).tolist() == [int(permute(*each)) for each in zip(i, n, key, strict=True)]


@pytest.mark.parametrize(("i", "n"), [(5, 5), (-1, 5), (0, 0), (0, 2**62 + 1)])
def test_permute_refuses_what_is_outside(i, n):
    with pytest.raises(ValueError, match="permute needs"):
        permute(i, n, 1)


@given(st.integers(1, 5000), st.lists(st.integers(0, 6 * order.TOGETHER), min_size=1, max_size=40), st.data())
def test_samples_are_where_they_are_alone(rows, begins, data):
    """Whatever was located before, in one piece or several, forwards or back, near or far apart."""
    mixture = Order([OrderCorpus("a", rows), OrderCorpus("b", 7)], 5)
    for begin in begins:
        length = data.draw(st.sampled_from([1, 3, 104, order.TOGETHER - 1, order.TOGETHER, order.TOGETHER + 1]))
        samples = np.append(np.arange(begin, begin + length)[::-1], data.draw(st.integers(0, 9 * order.TOGETHER)))
        for kept, anew in zip(mixture.locate(samples), mixture._located(samples), strict=True):
            assert (kept == anew).all()


def test_order_is_pinned():
    assert single(10, block=2, window=2).locate(np.arange(20)).row.tolist() == [
        8,
        9,
        6,
        7,
        4,
        0,
        1,
        5,
        2,
        3,
        5,
        4,
        6,
        7,
        3,
        0,
        2,
        1,
        9,
        8,
    ]
    mixed = Order([OrderCorpus("a", 10), OrderCorpus("b", 1000, 3)], 1, block=2, window=2)
    assert [part.tolist() for part in mixed.locate(np.arange(6))] == [
        [1, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [584, 8, 174, 9, 585, 6],
    ]


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_every_row_comes_once_per_epoch(rows, block, window, seed):
    located = single(rows, block, window, seed).locate(np.arange(3 * rows))
    assert (located.corpus == 0).all()
    assert (located.epoch == np.repeat(np.arange(3), rows)).all()
    for epoch in range(3):
        assert (np.sort(located.row[epoch * rows :][:rows]) == np.arange(rows)).all()


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 12))
def test_a_window_reads_few_blocks(rows, block, window):
    """At most its own blocks, one cut by the window's edge, and the short last block."""
    row = single(rows, block, window).locate(np.arange(rows)).row
    for start in range(0, rows, block * window):
        assert len(np.unique(row[start : start + block * window] // block)) <= window + 2


def test_epochs_and_seeds_differ():
    order = single(1000, block=8, window=4)
    first, second = order.locate(np.arange(2000)).row.reshape(2, 1000)
    other = single(1000, block=8, window=4, seed=2).locate(np.arange(1000)).row
    assert (first == second).mean() < 0.02 and (first == other).mean() < 0.02


def test_a_large_window_is_a_full_shuffle():
    """Each row is as likely at each place: mean place and spread of neighbours over many epochs."""
    rows, epochs = 40, 3000
    row = single(rows, block=8, window=5).locate(np.arange(rows * epochs)).row.reshape(epochs, rows)
    counts = np.array([np.bincount(row[:, place], minlength=rows) for place in range(rows)])
    chi = ((counts - epochs / rows) ** 2 / (epochs / rows)).sum()
    free = (rows - 1) ** 2
    assert abs(chi - free) < 5 * np.sqrt(2 * free)


def test_a_small_window_stays_local_but_blocks_travel():
    row = single(64 * 100, block=64, window=2).locate(np.arange(64 * 100)).row
    first = row[:128] // 64
    assert len(np.unique(first)) == 2  # two blocks
    assert not (np.diff(np.unique(row // 64)) != 1).any()  # all blocks are read
    assert abs(np.corrcoef(np.arange(6400), row)[0, 1]) < 0.4  # in no order


def test_far_positions_cost_nothing():
    order = Order([OrderCorpus("a", 10**9), OrderCorpus("b", 12_345)], 1)
    order.locate([0])
    start = time.process_time()
    far = order.locate(np.arange(10**10, 10**10 + 256))
    assert time.process_time() - start < 1
    assert far.row.max() < 10**9 and (far.epoch[far.corpus == 0] == 5).all()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=10))
def test_a_sample_is_where_it_is_whatever_it_is_asked_with(samples):
    order = Order([OrderCorpus("a", 50), OrderCorpus("b", 7, 0.3), OrderCorpus("c", 10**6, 2)], 4, 4, 3)
    together = order.locate(samples)
    for place, sample in enumerate(samples):
        assert [part[0] for part in order.locate(sample)] == [part[place] for part in together]


def test_quotas_are_exact_in_every_cycle():
    weights = [0.5, 0.3, 0.2]
    order = Order([OrderCorpus(name, 97, w) for name, w in zip("abc", weights, strict=True)], 1)
    assert order.quotas.tolist() == [500, 300, 200]
    corpus = order.locate(np.arange(5000)).corpus.reshape(5, 1000)
    assert all(np.bincount(cycle).tolist() == [500, 300, 200] for cycle in corpus)
    assert (corpus[0] != corpus[1]).any()
    assert np.bincount(corpus[0, :100], minlength=3) == pytest.approx([50, 30, 20], abs=20)  # spread


def test_each_corpus_of_a_mixture_is_read_in_its_own_order():
    """A corpus's samples inside the mixture are the samples it would give alone, one after another."""
    mixed = Order([OrderCorpus("a", 97), OrderCorpus("b", 30, 0.4)], 1, 4, 3)
    located = mixed.locate(np.arange(3000))
    for number, corpus in enumerate(mixed.corpora):
        mine = located.corpus == number
        alone = Order([corpus], 1, 4, 3).locate(np.arange(mine.sum()))
        assert (located.row[mine] == alone.row).all() and (located.epoch[mine] == alone.epoch).all()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_quotas_share_all_slots(weights):
    quota = quotas(weights, 100)
    share = 100 * np.array(weights) / sum(weights)
    assert quota.sum() == 100 and quota.min() >= 1
    assert (quota <= np.maximum(1, np.ceil(share + 1e-6))).all()  # none above its share
    if share.min() >= 1:
        assert (np.abs(quota - share) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        ([], "different names"),
        ([OrderCorpus("a", 1), OrderCorpus("a", 2)], "different names"),
        ([OrderCorpus("a", 1), OrderCorpus("b", 0)], "b has no rows"),
        ([OrderCorpus("a", 1), OrderCorpus("b", 1, 0.0)], "positive"),
        ([OrderCorpus("a", 1), OrderCorpus("b", 1, float("nan"))], "positive"),
        ([OrderCorpus(str(i), 1) for i in range(1001)], "1001 corpora"),
    ],
)
def test_impossible_mixtures_are_refused(corpora, message):
    with pytest.raises(UserError, match=message):
        Order(corpora, 1)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8, 17, 64])
def test_any_number_of_ranks_reads_the_same_batches(world):
    order, batch = single(1000, 8, 4), 37
    for step in range(5):
        samples = np.arange(step * batch, (step + 1) * batch)
        parts = [order.locate(samples[rank_slice(batch, rank, world)]).row for rank in range(world)]
        assert np.concatenate(parts).tolist() == order.locate(samples).row.tolist()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_rank_must_exist():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        rank_slice(8, 2, 2)


@given(st.data())
def test_small_networks_are_the_same_as_tables_and_walked(data: st.DataObject) -> None:
    n = np.array(data.draw(st.lists(st.integers(1, 100), min_size=1, max_size=60)))
    i = np.array([data.draw(st.integers(0, limit - 1)) for limit in n.tolist()])
    keys = np.array(data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3)), np.uint64)
    key = keys[np.arange(len(n)) % len(keys)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "MOST_TABLES", 0)
        walked = permute(i, n, key)
    assert np.array_equal(permute(i, n, key), walked)


def test_slots_that_are_left_go_to_the_largest_remainders() -> None:
    assert quotas([0.4562, 0.2347, 0.3091]).tolist() == [456, 235, 309]
    assert quotas([0.3333, 0.3333, 0.3334]).tolist() == [333, 333, 334]
    assert quotas([5.6, 3.3, 1.1], 10).tolist() == [6, 3, 1]
    assert quotas([1.0, 1.0, 1.0], 10).tolist() == [4, 3, 3], "of equal ones the first"
    assert quotas([1e-6, 2.5, 2.5, 5.0], 11).tolist() == [1, 3, 2, 5]
