"""Vocabularies of whole words, the most frequent first, with how often each occurred.

`tokenizer_counts.json` next to `tokenizer.json` has `counts`, a list: how often each id occurred in the text that the
tokenizer was trained on; 0 for special tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read_json

MIN_COUNT = 5  # word2vec.c's
COUNTS = "tokenizer_counts.json"


def learn(words: Counter[str], size: int, min_count: int, special_tokens: list[str]) -> dict[str, int]:
    """Ids: special tokens, then at most `size` words in all that occur at least `min_count` times, by frequency."""
    ranked = sorted((word for word in words if words[word] >= min_count), key=lambda word: (-words[word], word))
    taken = set(special_tokens)
    vocabulary = [*special_tokens, *(word for word in ranked if word not in taken)][:size]
    if len(vocabulary) == len(special_tokens):
        raise UserError(f"tokenizer.min_count: no word occurs {min_count} times; lower it or give more text.")
    return {word: number for number, word in enumerate(vocabulary)}


def write_counts(folder: Path, counts: list[int]) -> None:
    """Write how often each id occurred."""
    (folder / COUNTS).write_text(json.dumps({"counts": counts}) + "\n")


def read_counts(folder: Path) -> np.ndarray:
    """[vocabulary] int64: how often each id occurred. UserError where a tokenizer does not say it."""
    try:
        counts = np.asarray(read_json(folder / COUNTS)["counts"], np.int64)
        if counts.ndim != 1 or (counts < 0).any():
            raise UnfitError(f"{COUNTS} holds no list of counts")
    except (UnfitError, KeyError, ValueError, TypeError, OverflowError) as error:
        text = f"{folder}: does not say how often its words occur ({error}); set tokenizer.kind to word"
        raise UserError(text) from error
    return counts
