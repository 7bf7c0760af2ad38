"""Control labels: each word type has one, wherever it stands (Hewitt & Liang 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.rng import key

_ALL = 1 << 64


def control_labels(words: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """A label for each word, int64: equal words have equal ones, drawn from the distribution of `labels`.

    The draw of a word follows from the seed and the word alone.
    """
    numbers, counts = np.unique(labels, return_counts=True)
    ends = np.cumsum(counts) / counts.sum()
    of_type = {word: numbers[min(int(np.searchsorted(ends, key(seed, f"control {word}") / _ALL, "right")),
                                 len(numbers) - 1)] for word in dict.fromkeys(words)}  # fmt: skip
    return np.array([of_type[word] for word in words], np.int64)
