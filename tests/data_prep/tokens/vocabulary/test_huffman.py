"""Huffman codes: a tree made by hand, and no code that another set of codes beats."""

from __future__ import annotations

import heapq

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokens.vocabulary.huffman import huffman_paths


def test_a_tree_made_by_hand() -> None:
    """Of e 9, d 5, c 3, b 3, a 2: a+b → node 0 (5); c+0 → 1 (8), d stays: 5 < 8; d+1 → 2 (13); e+2 → root 3 (22)."""
    paths, branches = huffman_paths(np.array([0, 9, 5, 3, 3, 2]))
    codes = {row: (paths.row(row).tolist(), branches.row(row).tolist()) for row in range(6)}
    assert codes == {
        0: ([], []),  # does not occur
        1: ([3], [0]),
        2: ([3, 2], [1, 0]),
        3: ([3, 2, 1], [1, 1, 0]),
        4: ([3, 2, 1, 0], [1, 1, 1, 1]),
        5: ([3, 2, 1, 0], [1, 1, 1, 0]),
    }
    assert all(len(huffman_paths(np.array([0, 7]))[0].row(row)) == 0 for row in range(2))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=60).filter(lambda counts: sum(c > 0 for c in counts) > 1))
def test_codes_are_told_apart_and_none_is_shorter(counts: list[int]) -> None:
    paths, branches = huffman_paths(np.array(counts))
    present = [row for row in range(len(counts)) if counts[row]]
    codes = [tuple(branches.row(row).tolist()) for row in present]
    assert all(a != b[: len(a)] for a in codes for b in codes if a is not b)
    queue, total = [counts[row] for row in present], 0
    heapq.heapify(queue)
    while len(queue) > 1:
        joined = heapq.heappop(queue) + heapq.heappop(queue)
        total += joined
        heapq.heappush(queue, joined)
    assert sum(counts[row] * paths.lengths[row] for row in present) == total
    assert {paths.row(row)[0] for row in present} == {len(present) - 2}
