"""Kneser–Ney smoothing: values worked out by hand, NLTK's, and what every model of this kind must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.lm import KneserNeyInterpolated

from pipeline.downstream.predictions.kneser_ney import FALLBACK, KneserNey, NGrams, discounts_of

VOCABULARY = 12
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=120)


def ngrams(tokens: Sequence[int] | np.ndarray, vocabulary: int = VOCABULARY) -> NGrams:
    """The tokens of one text, each with the two before it."""
    padded = np.array([vocabulary, vocabulary, *tokens])
    return NGrams(np.stack([padded[:-2], padded[1:-1]], 1), padded[2:])


def every(vocabulary: int = VOCABULARY) -> np.ndarray:
    """All contexts of two tokens, those at the beginning of a text, too."""
    places = np.arange(vocabulary + 1)
    return np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)


def test_a_bigram_model_worked_out_by_hand() -> None:
    # a b a c: what follows a is b once and c once; b, c, the beginning are followed by one token.
    model = KneserNey(ngrams([0, 1, 0, 2], 4), 4, 2, np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]))
    # Different tokens before a: the beginning, b (2); before b: a; before c: a. Of 4 each 0.5 off: 1.5 / 4 is left.
    lower = (np.array([2, 1, 1, 0]) - [0.5, 0.5, 0.5, 0]) / 4 + 1.5 / 4 / 4
    after_a = (np.array([0, 0.5, 0.5, 0]) / 2) + (2 * 0.5 / 2) * lower
    after_b = np.array([0.5, 0, 0, 0]) + 0.5 * lower
    distributions = model.distributions(np.array([[9, 0], [9, 1], [9, 3]]) % 5)
    np.testing.assert_allclose(distributions, [after_a, after_b, lower], atol=1e-15)
    assert model.best(np.array([[4, 0], [4, 1], [4, 3]])).tolist() == [1, 0, 0]


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 15, 8, 5, 3])
    y = 40 / (40 + 2 * 15)
    expected = [1 - 2 * y * 15 / 40, 2 - 3 * y * 8 / 15, 3 - 4 * y * 5 / 8]
    np.testing.assert_allclose(discounts_of(counts), expected)
    assert discounts_of(np.array([1, 1, 2])).tolist() == list(FALLBACK)
    assert discounts_of(np.repeat([1, 2, 3, 4], [40, 5, 30, 5])).tolist() == list(FALLBACK), "a negative one"


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_are_those_of_nltk(order: int) -> None:
    random = np.random.default_rng(0)
    counted = ngrams(random.zipf(1.4, 600) % VOCABULARY)
    discounts = np.array([[0.0] * 3] + [[0.3] * 3] * (order - 1))  # NLTK has one, and none for single tokens
    model = KneserNey(counted, VOCABULARY, order, discounts)
    reference = KneserNeyInterpolated(order, discount=0.3)
    rows = [tuple(map(str, [*context, word])) for context, word in zip(*counted, strict=True)]
    reference.fit([[row[-n:] for n in range(1, order + 1)] for row in rows], [str(n) for n in range(VOCABULARY + 1)])
    contexts = every()
    words = random.choice(counted.words, len(contexts))
    expected = [
        reference.score(str(word), tuple(map(str, context[3 - order :])))
        for context, word in zip(contexts, words, strict=True)
    ]
    np.testing.assert_allclose(model.probabilities(NGrams(contexts, words)), expected, rtol=1e-9)


@given(TOKENS, st.integers(1, 3))
def test_probabilities_sum_to_one_and_agree(tokens: list[int], order: int) -> None:
    model, contexts = KneserNey(ngrams(tokens), VOCABULARY, order), every()
    p = model.distributions(contexts)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    assert (p > 0).all()
    for word in (0, tokens[-1]):
        words = np.full(len(contexts), word)
        np.testing.assert_allclose(model.probabilities(NGrams(contexts, words)), p[:, word], atol=1e-15)
    np.testing.assert_allclose(p[np.arange(len(p)), model.best(contexts)], p.max(1), atol=1e-15)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="order 4 of 12 ids"):
        KneserNey(ngrams([1]), VOCABULARY, 4)
    with pytest.raises(ValueError, match="at most 2,097,151 ids"):
        KneserNey(ngrams([1]), 1 << 22, 2)
    with pytest.raises(ValueError, match="no tokens"):
        KneserNey(ngrams([]), VOCABULARY, 2)
