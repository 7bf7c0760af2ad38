"""Interpolated Kneser–Ney smoothing with three discounts for each order (Chen & Goodman 1999, sections 2.7 and 3).

    p(w | c) = max(0, a(c w) − D) / a(c ·) + γ(c) p(w | c without its farthest token)

a is the count of an n-gram in the highest order and, below, the number of different tokens that it follows. D is D1, D2
or D3 for a = 1, 2 or more; γ(c) is the share that discounting took. The last one to be asked is 1 / vocabulary.

Counted and asked in arrays: five million tokens take seconds. KenLM (Heafield et al. 2013) is the reference; its Python
package only reads models that a separate program estimates. That of NLTK has one discount, and a Python object for
each n-gram.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

BITS = 21  # of a token in a key: three of them fit into 63
LARGEST = (1 << BITS) - 1  # vocabulary: ids, and one for the place before a text
FALLBACK = (0.5, 1.0, 1.5)  # discounts where too few n-grams are there to estimate them (KenLM's)


class NGrams(NamedTuple):
    """Tokens of a text with the context before each of them.

    words: integers [N]. contexts: [N, n−1], the nearest token last; before a text's first one, the vocabulary's size.
    """

    contexts: np.ndarray
    words: np.ndarray


class _Table(NamedTuple):
    """One order: p(w | c) = share(c w) + left(c) · p of the order below.

    n-grams are sorted by context and word: those of context k are [starts[k], starts[k + 1]).
    """

    contexts: np.ndarray  # int64 [C], keys in ascending order
    starts: np.ndarray  # int64 [C + 1]
    pairs: np.ndarray  # int64 [G], context's number and word, in ascending order
    shares: np.ndarray  # float64 [G]
    left: np.ndarray  # float64 [C]


def discounts_of(counts: np.ndarray) -> np.ndarray:
    """D1, D2 and D3 of n-grams with these counts (Chen & Goodman 1999, equation 26); 0 ≤ Dk ≤ k."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return np.array(FALLBACK)
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return discounts if ((discounts >= 0) & (discounts <= [1, 2, 3])).all() else np.array(FALLBACK)


class KneserNey:
    """A model of order 1, 2 or 3 of `vocabulary` ids.

    discounts: [order, 3], the lowest order first, instead of those estimated from the counts.
    """

    def __init__(self, ngrams: NGrams, vocabulary: int, order: int, discounts: np.ndarray | None = None) -> None:
        if not 1 <= order <= 3 or vocabulary > LARGEST:
            raise ValueError(f"order {order} of {vocabulary:,} ids; 1 to 3, and at most {LARGEST:,} ids")
        if not len(ngrams.words):
            raise ValueError("no tokens to count")
        self.vocabulary, self.order = vocabulary, order
        keys = _keys(ngrams.contexts[:, ngrams.contexts.shape[1] - (order - 1) :])
        keys, counts = np.unique(keys << BITS | ngrams.words, return_counts=True)
        tables: list[_Table] = []
        for number in range(order, 0, -1):
            own = discounts_of(counts) if discounts is None else np.asarray(discounts)[number - 1]
            tables.append(_table(keys, counts, own))
            # Without the farthest token, each different n-gram counts once.
            keys, counts = np.unique(keys & ((1 << BITS * (number - 1)) - 1), return_counts=True)
        self.tables = tables[::-1]
        lowest = self.tables[0]
        self._unigram = np.full(vocabulary, lowest.left[0] / vocabulary)
        self._unigram[lowest.pairs] += lowest.shares

    def probabilities(self, ngrams: NGrams, order: int | None = None) -> np.ndarray:
        """p of each word after its context, float64 [N], by this order or a lower one. contexts: [N, order − 1]."""
        p = self._unigram[ngrams.words]
        for number, table in enumerate(self.tables[1:order], 1):
            place, known = self._find(table, number, ngrams.contexts)
            place = place[known]
            pairs = place << BITS | ngrams.words[known]
            places = np.minimum(np.searchsorted(table.pairs, pairs), len(table.pairs) - 1)
            share = np.where(table.pairs[places] == pairs, table.shares[places], 0.0)
            p[known] = share + table.left[place] * p[known]
        return p

    def distributions(self, contexts: np.ndarray) -> np.ndarray:
        """p of every id after each context [B, order − 1]: float64 [B, vocabulary]."""
        p = np.tile(self._unigram, (len(contexts), 1))
        for number, table in enumerate(self.tables[1:], 1):
            place, known = self._find(table, number, contexts)
            row, place = np.flatnonzero(known), place[known]
            p[row] *= table.left[place, None]
            first, count = table.starts[place], np.diff(table.starts)[place]
            inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
            p[np.repeat(row, count), table.pairs[inside] & LARGEST] += table.shares[inside]
        return p

    def best(self, contexts: np.ndarray) -> np.ndarray:
        """The likeliest id after each context [N, order − 1], int64 [N]: `distributions(contexts).argmax(1)`."""
        return self._best_of(self._best, contexts)[0]

    @cached_property
    def _best(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each order above 1, the likeliest id after each of its contexts, and its p.

        It has been seen there, or is the likeliest one of the order below: discounting left all others less.
        """
        best_words: list[tuple[np.ndarray, np.ndarray]] = []
        for number, table in enumerate(self.tables[1:], 1):
            context, words = table.pairs >> BITS, table.pairs & LARGEST
            shorter = _tokens(table.contexts, number)[:, 1:]
            below = self.probabilities(NGrams(shorter[context], words), number)
            p = table.shares + table.left[context] * below
            most = np.maximum.reduceat(p, table.starts[:-1])
            is_most = np.flatnonzero(p == most[context])
            word = words[is_most[np.searchsorted(is_most, table.starts[:-1])]]
            lower, p_lower = self._best_of(best_words, shorter)
            p_lower = table.left * p_lower
            best_words.append((np.where(p_lower > most, lower, word), np.maximum(p_lower, most)))
        return best_words

    def _best_of(self, best_words: Sequence[tuple[np.ndarray, np.ndarray]], contexts: np.ndarray) -> tuple[Any, Any]:
        """The likeliest ids and their p, by the orders that `best_words` is of."""
        word, p = (np.full(len(contexts), value) for value in (self._unigram.argmax(), self._unigram.max()))
        for number, (table, (words, of_words)) in enumerate(zip(self.tables[1:], best_words, strict=False), 1):
            place, known = self._find(table, number, contexts)
            word[known], p[known] = words[place[known]], of_words[place[known]]
        return word, p

    def _find(self, table: _Table, number: int, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the contexts' last `number` tokens in a table, and which of them are there."""
        keys = _keys(contexts[:, contexts.shape[1] - number :])
        place = np.minimum(np.searchsorted(table.contexts, keys), len(table.contexts) - 1)
        return place, table.contexts[place] == keys


def _keys(tokens: np.ndarray) -> np.ndarray:
    """One number for each row of tokens [N, n]: int64 [N]."""
    keys = np.zeros(len(tokens), np.int64)
    for column in tokens.T:
        keys = keys << BITS | column
    return keys


def _tokens(keys: np.ndarray, number: int) -> np.ndarray:
    """The `number` tokens of each key: int64 [N, number]."""
    return np.stack([keys >> BITS * place & LARGEST for place in range(number - 1, -1, -1)], 1)


def _table(keys: np.ndarray, counts: np.ndarray, discounts: np.ndarray) -> _Table:
    """The table of n-grams with their (adjusted) counts."""
    of_context = keys >> BITS
    starts = np.flatnonzero(np.diff(of_context, prepend=-1))
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    discount = discounts[np.minimum(counts, 3) - 1]
    sizes = np.diff(starts, append=len(keys))
    shares = (counts - discount) / np.repeat(totals, sizes)
    left = np.add.reduceat(discount, starts) / totals
    pairs = np.repeat(np.arange(len(starts)), sizes) << BITS | (keys & LARGEST)
    return _Table(of_context[starts], np.append(starts, len(keys)), pairs, shares, left)
