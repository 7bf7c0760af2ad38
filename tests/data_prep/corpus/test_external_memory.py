"""External grouping and selection against dicts and sorting, however small the memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.external_memory import below, earlier_equals, first_of_equals, smallest

WORD = st.sampled_from([0, 1, 2, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
KEYS = st.lists(st.tuples(WORD, st.sampled_from([0, 1, 2**63, 2**64 - 1])), max_size=60)
CUTS = st.lists(st.integers(0, 60), max_size=4)
MEMORY = st.integers(1, 70)


def as_array(keys) -> np.ndarray:
    return np.array(keys, np.uint64).reshape(-1, 2)


def cut(array: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(array, sorted(cuts))


def reference(keys) -> list[list[int]]:
    """(row, first, previous), with a dict."""
    expected, first, previous = [], {}, {}
    for row, key in enumerate(map(tuple, keys)):
        if key in first:
            expected.append([row, first[key], previous[key]])
        first.setdefault(key, row)
        previous[key] = row
    return expected


def joined(arrays) -> list[list[int]]:
    return [row for array in arrays for row in array.tolist()]


@given(KEYS, CUTS, MEMORY)
def test_equals_are_those_of_a_dict(tmp_path_factory, keys, cuts, memory):
    scratch = tmp_path_factory.mktemp("equals")
    arrays, expected = cut(as_array(keys), cuts), reference(keys)
    assert joined(earlier_equals(arrays, scratch, memory)) == expected
    assert joined(first_of_equals(arrays, scratch, memory)) == [[row, first] for row, first, _ in expected]
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("memory", [1000, 7000, 1 << 21])
@pytest.mark.parametrize("kind", ["random", "equal", "sorted", "one key in half of the rows", "equal high words"])
def test_many_rows(tmp_path, kind, memory):
    keys = np.random.default_rng(0).integers(0, 2**64, (20_000, 2), np.uint64)
    keys[10_000:] = keys[np.random.default_rng(1).integers(0, 10_000, 10_000)]
    if kind == "equal":
        keys[:] = keys[0]
    elif kind == "sorted":
        keys = keys[np.lexsort((keys[:, 1], keys[:, 0]))]
    elif kind == "one key in half of the rows":
        keys[::2] = keys[0]
    elif kind == "equal high words":
        keys[:, 0] = 7
    assert joined(earlier_equals(cut(keys, [1, 5000, 5000, 15_000]), tmp_path, memory)) == reference(keys)


def test_nothing_is_found_in_nothing(tmp_path):
    assert joined(first_of_equals([], tmp_path)) == []
    assert joined(first_of_equals([as_array([])], tmp_path / "new")) == []
    assert smallest(lambda: [], 3) == 1 << 128


def test_scratch_is_emptied_when_the_reader_stops_or_the_keys_fail(tmp_path):
    equals = earlier_equals([as_array([(1, 1)] * 50)], tmp_path, 5)
    next(equals)
    assert list(tmp_path.iterdir())
    equals.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not list(tmp_path.iterdir())

    def failing():
        yield as_array([(1, 1)] * 50)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(first_of_equals(failing(), tmp_path, 5))
    assert not list(tmp_path.iterdir())


def test_what_is_no_key_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not int64 \[3, 2\]"):
        list(first_of_equals([np.zeros((3, 2), np.int64)], tmp_path))


@given(KEYS, CUTS, MEMORY, st.integers(0, 70))
def test_the_boundary_is_the_next_key(keys, cuts, memory, count):
    array = as_array(keys)
    boundary = smallest(lambda: cut(array, cuts), count, memory)
    numbers = sorted(high << 64 | low for high, low in keys)
    assert boundary == (numbers[count] if count < len(numbers) else 1 << 128)
    assert below(array, boundary).tolist() == [high << 64 | low < boundary for high, low in keys]
    if len(set(numbers)) == len(numbers):
        assert below(array, boundary).sum() == min(count, len(numbers))


def test_uniform_keys_are_read_twice():
    keys, reads = np.random.default_rng(0).integers(0, 2**64, (50_000, 2), np.uint64), []

    def read():
        reads.append(1)
        return cut(keys, [20_000])

    assert below(keys, smallest(read, 12_345, 100)).sum() == 12_345
    assert len(reads) == 2
