"""Huffman codes of words by their counts, as word2vec.c has them.

The two rarest nodes are joined until one is left, the root; the rarer of the two is branch 0, the other 1. Among nodes
of equal count an inner node comes before a word, an older inner node before a newer one, and a word of a higher id
before one of a lower (words are in order of frequency). Inner nodes are numbered as they are made, from 0.
"""

from __future__ import annotations

import numpy as np

from data_prep.shards.rows import Ragged


def huffman_paths(counts: np.ndarray) -> tuple[Ragged, Ragged]:
    """By id: the inner nodes from the root down to its word, and the branch taken at each. counts: [V].

    Ids that do not occur have no path. A vocabulary of one word has a path of no nodes.
    """
    words = np.flatnonzero(counts)
    words = words[np.lexsort((-words, counts[words]))]  # the rarest first
    parent, branch = _tree(counts[words].tolist())
    depth_nodes, depth_branches = [], []
    node = np.arange(len(words))
    root = len(parent) - 1
    while (is_below := node != root).any():
        depth_branches.append(np.where(is_below, branch[node], -1))
        node = np.where(is_below, parent[node], root)
        depth_nodes.append(np.where(is_below, node - len(words), -1))
    if not depth_nodes:
        empty = Ragged.from_lengths(np.empty(0, np.int64), np.zeros(len(counts), np.int64))
        return empty, empty
    paths, branches = (
        _by_id(np.stack(columns[::-1], 1), words, len(counts)) for columns in (depth_nodes, depth_branches)
    )
    return paths, branches


def _tree(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Parents and branches of all nodes, leaves (by ascending count) before inner ones; the root is its own parent."""
    num_leaves = len(counts)
    counts = [*counts, *[0] * (num_leaves - 1)]
    parent, branch = [len(counts) - 1] * len(counts), [0] * len(counts)
    leaf, inner = 0, num_leaves
    for made in range(num_leaves, len(counts)):
        for number in range(2):
            if leaf < num_leaves and (inner == made or counts[leaf] < counts[inner]):
                node, leaf = leaf, leaf + 1
            else:
                node, inner = inner, inner + 1
            parent[node], branch[node] = made, number
            counts[made] += counts[node]
    return np.array(parent), np.array(branch)


def _by_id(columns: np.ndarray, words: np.ndarray, vocabulary: int) -> Ragged:
    """Rows [words, depth] without the −1 in them, in order of their ids."""
    rows = np.full((vocabulary, columns.shape[1]), -1, np.int64)
    rows[words] = columns
    return Ragged.from_lengths(rows[rows >= 0], (rows >= 0).sum(1))
