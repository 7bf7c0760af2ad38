"""How well texts are found by their translations: mean reciprocal rank, and the share that is found first.

A query's candidates are all texts of the other language. Its rank is that of the first of its translations; a candidate
that is as near as that one goes before it, so vectors that are all alike find nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Retrieval(NamedTuple):
    """Shares of 1 over the queries."""

    mrr: float
    top1: float


def retrieval(similarities: np.ndarray, is_right: np.ndarray) -> Retrieval:
    """similarities: float [Q, C]. is_right: bool [Q, C], the translations of each query, of which there are some."""
    ranks = ranks_of(similarities, is_right)
    return Retrieval(float((1 / ranks).mean()), float((ranks == 1).mean()))


def ranks_of(similarities: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """The rank of each query's nearest translation, from 1: int64 [Q]."""
    best = np.where(is_right, similarities, -np.inf).max(1)
    return 1 + ((similarities >= best[:, None]) & ~is_right).sum(1)


def chance(is_right: np.ndarray) -> Retrieval:
    """What candidates in random order give on average."""
    num, numbers = is_right.shape[1], is_right.sum(1)
    by_number = {count: _expected(count, num) for count in np.unique(numbers).tolist()}
    return Retrieval(float(np.mean([by_number[count] for count in numbers.tolist()])), float((numbers / num).mean()))


def _expected(right: int, candidates: int) -> float:
    """E[1/rank] of the first of k right ones among n: P(rank = r) = C(n − r, k − 1) / C(n, k)."""
    total, share = 0.0, right / candidates
    for rank in range(1, candidates - right + 2):
        total += share / rank
        share *= (candidates - rank - right + 1) / (candidates - rank) if candidates > rank else 0.0
    return total


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[Q, C] of vectors [Q, D] and [C, D]; 0 where one is zero."""
    return _unit(first) @ _unit(second).T


def centred(vectors: np.ndarray) -> np.ndarray:
    """Vectors without the mean of all, which is what a language has of its own (Libovický et al. 2020)."""
    return vectors - vectors.mean(0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
