"""Rejection of texts that share n-grams with evaluation texts (Brown et al. 2020, appendix C).

A text is a sequence of words (`data_prep.text.words`). An n-gram is represented by a 64-bit hash, which is the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash

from data_prep.text.rules.config import Outcome
from data_prep.text.words import words

MIN_WORDS = 8  # an evaluation text with fewer words could be anywhere by chance
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; of a polynomial in the words' hashes, modulo 2⁶⁴


class SharedNgrams:
    """Rejects texts that share an n-gram with an evaluation text: a function from a cleaned text to an `Outcome`.

    n: words of an n-gram. A shorter evaluation text counts as one n-gram if it has at least `MIN_WORDS` words.
    """

    def __init__(self, evaluation: Iterable[str], n: int) -> None:
        self._known = _known_ngrams(evaluation, n)

    def __call__(self, text: str) -> Outcome:
        hashes = _word_hashes(text)
        previous = 1
        ngrams = hashes
        for n, known_ngrams in self._known.items():
            ngrams = _longer(ngrams, hashes, previous, n)
            previous = n
            if not ngrams.size:
                break
            places = np.searchsorted(known_ngrams, ngrams)
            if (known_ngrams[np.minimum(places, known_ngrams.size - 1)] == ngrams).any():
                return Outcome(None, "decontamination: shares words with an evaluation text")
        return Outcome(text)


def ngrams_of(texts: Iterable[str], n: int) -> np.ndarray:
    """uint64 [N]: sorted, distinct hashes of the n-grams of texts.

    A text of fewer than n words is one n-gram if it has at least `MIN_WORDS` words, else none.
    """
    ngrams_of_size = _known_ngrams(texts, n)
    return np.unique(np.concatenate(list(ngrams_of_size.values()))) if ngrams_of_size else np.empty(0, np.uint64)


def _known_ngrams(texts: Iterable[str], n: int) -> dict[int, np.ndarray]:
    """Sorted, distinct hashes of n-grams by number of words, in ascending order of that number."""
    hashes_of: dict[int, list[np.ndarray]] = {}
    for text in texts:
        hashes = _word_hashes(text)
        length = min(n, hashes.size)
        if length == n or length >= MIN_WORDS:
            hashes_of.setdefault(length, []).append(_longer(hashes, hashes, 1, length))
    return {length: np.unique(np.concatenate(hashes_of[length])) for length in sorted(hashes_of)}


def _word_hashes(text: str) -> np.ndarray:
    encoded = " ".join(words(text)).encode("utf-8", "surrogatepass").split()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, encoded), np.uint64, len(encoded))


def _longer(ngrams: np.ndarray, words: np.ndarray, length: int, wanted: int) -> np.ndarray:
    """Hashes of n-grams of `wanted` words, from those of n-grams of `length` words and those of single words."""
    for added in range(length, wanted):
        ngrams = ngrams[:-1] * _FACTOR + words[added:]
    return ngrams
