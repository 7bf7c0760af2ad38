"""Any number of workers and micro-batches reads the same global batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corruptions import build, config_of
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, ragged
from tests.training import tiny
from training.config import OrderConfig
from training.data import ConsecutiveStreams, Corpus, MemoryTable, Stream, ahead, micro_batches, worker_samples
from training.job import corruption_on_load


@given(
    batch=st.integers(8, 70),
    world=st.sampled_from([1, 2, 3, 4, 8]),
    micro=st.integers(1, 70),
    step=st.integers(0, 10**12),
)
def test_the_workers_shares_make_up_the_global_batch(batch: int, world: int, micro: int, step: int) -> None:
    parts = micro_batches(batch, world, micro)
    shares = [worker_samples(step, batch, parts, rank, world) for rank in range(world)]
    assert all(len(share) == parts for share in shares)
    assert all(len(numbers) <= micro for share in shares for numbers in share)
    together = np.concatenate([share[part] for part in range(parts) for share in shares])
    np.testing.assert_array_equal(together, np.arange(step * batch, (step + 1) * batch))


def test_reading_is_a_function_of_the_sample_numbers() -> None:
    stream = Stream([Corpus("tiny", tiny.table())], 7, OrderConfig(block=8, window=4), tiny.masked)
    expected = stream.read(np.arange(900, 932))
    halves = [stream.read(np.arange(900, 916)), stream.read(np.arange(916, 932))]
    for name, column in expected.items():
        if isinstance(column, Ragged):
            parts = np.concatenate([half[name].values for half in halves])  # type: ignore[union-attr]
            np.testing.assert_array_equal(column.values, parts)


def test_a_row_is_masked_otherwise_in_another_epoch() -> None:
    table = tiny.table(40)
    stream = Stream([Corpus("tiny", table)], 7, OrderConfig(block=1, window=64), tiny.masked)
    location = stream.order.locate(np.arange(80))
    first, second = (np.flatnonzero(location.row == 5)).tolist()
    rows = stream.read(np.array([first, second]))
    positions = rows["target_positions"]
    assert isinstance(positions, Ragged)
    assert positions.row(0).tolist() != positions.row(1).tolist()


@pytest.mark.parametrize("kind", ["masked-lm", "masked-spans"])
def test_masks_are_drawn_anew_in_each_epoch_unless_they_are_in_the_shards(kind: str) -> None:
    """RoBERTa's dynamic masks, and static ones (Liu et al. 2019, section 4.1)."""
    rows, order = tiny.table(40).columns, OrderConfig(block=1, window=64)
    tokens = ragged(rows, "input")
    rows = {**rows, "word_start": Ragged(np.ones(len(tokens.values), np.uint8), tokens.offsets)}
    masks: dict[str, list[list[int]]] = {}
    for at in ("load", "shards"):
        config = config_of({"kind": kind, "at": at, "rate": 0.3})
        draws = Draws(key(7, "corrupt", "tiny"), 0, np.arange(40))
        stored = rows if at == "load" else build(config, tiny.SPECIALS)(rows, draws)
        stream = Stream([Corpus("tiny", MemoryTable(stored, 40))], 7, order, corruption_on_load(config, tiny.SPECIALS))
        location = stream.order.locate(np.arange(120))
        visits = np.flatnonzero(location.row == 5)
        assert location.epoch[visits].tolist() == [0, 1, 2]
        positions = ragged(stream.read(visits), "target_positions")
        masks[at] = [positions.row(visit).tolist() for visit in range(3)]
    first, second, third = masks["load"]
    assert first != second != third != first and {len(first)} == {len(second), len(third)}
    assert masks["shards"] == [first] * 3


def test_mixtures_are_read_in_the_order_asked() -> None:
    corpora = [Corpus("a", tiny.table(50), 3.0), Corpus("b", tiny.table(30, seed=9), 1.0)]
    stream = Stream(corpora, 7, OrderConfig(block=4, window=4), tiny.masked)
    together = stream.read(np.arange(100))["seen"]
    assert isinstance(together, Ragged)
    for number in (0, 17, 63, 99):
        alone = stream.read(np.array([number]))["seen"]
        assert isinstance(alone, Ragged)
        np.testing.assert_array_equal(together.row(number), alone.row(0))


@pytest.mark.parametrize(("world", "micro"), [(1, None), (2, None), (3, 4)])
def test_a_step_of_like_lengths_is_the_same_on_any_number_of_workers(world: int, micro: int | None) -> None:
    """Each worker opens its own stream at each step, as after a resume."""
    corpora = [Corpus("a", tiny.table(50), 3.0), Corpus("b", tiny.table(30, seed=9), 1.0)]
    order, batch = OrderConfig(block=4, window=4, length_window=8), 12
    drawn = Stream(corpora, 7, order.model_copy(update={"length_window": None}), tiny.masked)
    stream = Stream(corpora, 7, order, tiny.masked, global_batch=batch)
    spread = []
    for step in (0, 3, 9):
        expected = stream.read(np.arange(step * batch, (step + 1) * batch))["seen"]
        parts = micro_batches(batch, world, micro)
        shares = [worker_samples(step, batch, parts, rank, world) for rank in range(world)]
        streams = [Stream(corpora, 7, order, tiny.masked, global_batch=batch) for _ in range(world)]
        read = [streams[rank].read(shares[rank][part])["seen"] for part in range(parts) for rank in range(world)]
        rows_read = Ragged.concat([column for column in read if isinstance(column, Ragged)])
        assert isinstance(expected, Ragged) and np.array_equal(rows_read.values, expected.values)
        plain = drawn.read(np.arange(step * batch, (step + 1) * batch))["seen"]
        assert isinstance(plain, Ragged)
        spread.append((np.ptp(rows_read.lengths), np.ptp(plain.lengths)))
    assert sum(like for like, _ in spread) < sum(unlike for _, unlike in spread) / 2
    with pytest.raises(ValueError, match="needs global_batch"):
        Stream(corpora, 7, order, tiny.masked)


def test_one_stream_follows_another_at_the_step_asked() -> None:
    short, long = (Stream([Corpus(n, tiny.table(50, seed=s))], 7, OrderConfig()) for n, s in (("a", 0), ("b", 1)))
    stream = ConsecutiveStreams(short, long, begins=24)
    for samples, alone in (
        (np.arange(16, 24), short.read(np.arange(16, 24))),
        (np.arange(24, 32), long.read(np.arange(8))),
    ):
        np.testing.assert_array_equal(stream.read(samples)["input"].values, alone["input"].values)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="samples 20 to 27 span the change at 24"):
        stream.read(np.arange(20, 28))


def test_reading_ahead_keeps_the_order_and_raises_where_it_failed() -> None:
    assert list(ahead(lambda i=i: i * i for i in range(5))) == [0, 1, 4, 9, 16]

    def fail() -> int:
        raise ValueError("row 3")

    results = ahead([lambda: 1, fail, lambda: 2])
    assert next(results) == 1
    with pytest.raises(ValueError, match="row 3"):
        next(results)
