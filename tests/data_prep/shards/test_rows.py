"""Ragged against lists of lists, and the helpers on whole batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards.rows import Ragged, Specials, concat, num_rows, ragged, take

LISTS = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8)


def lists(column: Ragged) -> list[list[int]]:
    return [column.row(i).tolist() for i in range(len(column))]


@given(LISTS)
def test_ragged_is_a_list_of_lists(rows):
    column = Ragged.from_rows(rows, np.uint16)
    assert lists(column) == rows
    assert column.values.dtype == np.uint16 and column.offsets.dtype == np.int64
    assert column.lengths.tolist() == [len(row) for row in rows]
    assert column.row_index().tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert column.positions().tolist() == [j for row in rows for j in range(len(row))]


@given(LISTS.filter(bool), st.data())
def test_take_gathers_in_the_order_asked(rows, data):
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    assert lists(Ragged.from_rows(rows, np.int32).take(index)) == [rows[i] for i in index]


@given(LISTS.filter(bool), st.data())
def test_consecutive_rows_are_not_copied(rows, data):
    column = Ragged.from_rows(rows, np.int32)
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    part = column.take(range(start, stop))
    assert lists(part) == rows[start:stop]
    assert part.values.base is column.values


@given(LISTS, LISTS, st.integers(5, 7))
def test_concat_and_pad(first, second, width):
    column = Ragged.concat([Ragged.from_rows(rows, np.int32) for rows in (first, second)])
    assert lists(column) == first + second
    padded = column.pad(width, -1)
    assert padded.tolist() == [row + [-1] * (width - len(row)) for row in first + second]


ITEMS = st.sampled_from([(), (1,), (3,), (2, 3)])
DTYPES = st.sampled_from([np.uint8, np.int64, np.float16, np.float32])


@st.composite
def rows_of_items(draw) -> tuple[list[np.ndarray], tuple[int, ...], np.dtype]:
    """Rows [length, *item] of 0 … 5 items, as a plain list; the shape and dtype of items."""
    item, dtype = draw(ITEMS), np.dtype(draw(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    lengths = draw(st.lists(st.integers(0, 5), max_size=7))
    return [rng.integers(0, 99, (length, *item)).astype(dtype) for length in lengths], item, dtype


@given(rows_of_items(), st.data())
def test_items_may_have_axes_of_their_own(example, data):
    rows, item, dtype = example
    column = Ragged.from_rows(rows, dtype, item)
    assert column.item == item and column.values.dtype == dtype
    assert all(np.array_equal(column.row(i), row) for i, row in enumerate(rows)) and len(column) == len(rows)
    assert column.row_index().tolist() == [i for i, row in enumerate(rows) for _ in row]
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    taken = column.take(index)
    assert len(taken) == len(index) and taken.item == item
    assert all(np.array_equal(taken.row(place), rows[number]) for place, number in enumerate(index))
    both = Ragged.concat([column, taken])
    assert all(np.array_equal(both.row(i), row) for i, row in enumerate(rows + [rows[i] for i in index]))
    padded = column.pad(6, 7)
    assert padded.shape == (len(rows), 6, *item) and padded.dtype == dtype
    for row, expected in zip(padded, rows, strict=True):
        assert np.array_equal(row[: len(expected)], expected) and (row[len(expected) :] == 7).all()


@pytest.mark.parametrize("rows", [[1, 2], [2], [0, 2], [-4]])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(IndexError):
        Ragged.from_rows([[1], [2, 3]]).take(rows)


def test_pad_of_full_rows_is_a_view_and_never_cuts():
    column = Ragged.from_rows([[1, 2], [3, 4]])
    assert np.shares_memory(column.pad(2, 0), column.values)
    with pytest.raises(ValueError, match="does not fit"):
        column.pad(1, 0)


@pytest.mark.parametrize("offsets", [[], [0, 3], [1, 4], [[0, 4]]])
def test_offsets_must_cover_the_values(offsets):
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.arange(4), np.array(offsets, np.int64))


def batch(*rows: list[int]) -> dict:
    return {"input": Ragged.from_rows(rows, np.uint16), "label": np.array([len(row) for row in rows], np.uint8)}


def test_batches_are_taken_and_joined_by_column():
    rows = concat([batch([1], [2, 3]), batch([4, 5, 6])])
    assert num_rows(rows) == 3 and num_rows({}) == 0
    picked = take(rows, [2, 0])
    assert lists(ragged(picked, "input")) == [[4, 5, 6], [1]]
    labels = np.asarray(picked["label"])
    assert labels.tolist() == [3, 1] and labels.dtype == np.uint8


def test_columns_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="differ in their number of rows"):
        num_rows({"input": Ragged.from_rows([[1]]), "label": np.zeros(2)})
    with pytest.raises(ValueError, match="different columns"):
        concat([batch([1]), {"input": Ragged.from_rows([[1]])}])
    with pytest.raises(TypeError, match="label"):
        ragged(batch([1]), "label")


def test_specials_know_what_is_text():
    specials = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=9, all=frozenset({7}))
    assert specials.all == {0, 1, 2, 3, 4, 7}
    assert specials.ordinary.tolist() == [5, 6, 8]
    assert np.flatnonzero(specials.is_special).tolist() == [0, 1, 2, 3, 4, 7]
    with pytest.raises(ValueError, match="vocabulary of 4"):
        Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=4)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_ids_are_stored_narrow(vocabulary, dtype):
    assert Specials(vocabulary).dtype == dtype
