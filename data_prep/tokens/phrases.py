"""Finds phrases in a corpus: words that stand together far more often than by chance.

    NPMI(a, b) = ln(p(ab) / (p(a) p(b))) / −ln p(ab)        1: never apart, 0: as by chance (Bouma 2009)

A phrase is a run of words of one sentence, nothing but white space between them, that occurs at least `min_count` times
and whose NPMI is at least `npmi` wherever it is cut in two, so that what is merely next to a phrase ("the United
States") is not part of it. Probabilities are counts divided by the number of words.

Runs are counted from short to long: one of n words can be frequent only if its first and its last n − 1 words are, so
only those are counted. Words are compared as the ids that spell them, without punctuation at their ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data_prep.rng import mix
from data_prep.shards.rows import Ragged, offsets_of
from data_prep.tokens.corpus import TokenCorpus

MOST_TOKENS = 1 << 26  # that are counted; of a larger corpus, documents at equal distances
BATCH = 1 << 20  # tokens to count at a time


class PhrasesConfig(BaseModel):
    """Which runs of words are phrases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_count: int = Field(default=20, ge=2)
    """Fewest occurrences in the training text (in what is counted of it)."""
    npmi: float = Field(default=0.5, gt=-1, le=1)
    """Least normalised pointwise mutual information of the parts into which a phrase can be cut."""
    longest: int = Field(default=4, ge=2)
    """Most words in a phrase."""


class Phrase(NamedTuple):
    """A phrase: the ids that spell it, its number of words, its occurrences, and its NPMI where that is least."""

    ids: tuple[int, ...]
    words: int
    count: int
    npmi: float


class Found(NamedTuple):
    """Phrases, the most frequent first, and the number and share of the words that were counted."""

    phrases: list[Phrase]
    words: int
    share: float


class _Words(NamedTuple):
    """Words of some documents, in order.

    start, stop: [W], their tokens in the corpus, without punctuation at the ends. key: [W] uint64, which word. joined:
    [W] bool, whether the next word follows in the same sentence with nothing but white space between.
    """

    start: np.ndarray
    stop: np.ndarray
    key: np.ndarray
    joined: np.ndarray


class _Table(NamedTuple):
    """Frequent runs of n words. keys: [G] ascending; count: [G]; place: [G, 3], corpus, first and last token of one."""

    keys: np.ndarray
    count: np.ndarray
    place: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The index of each key; −1: not in the table."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[index] == keys, index, -1)


def find(
    corpora: Sequence[TokenCorpus], config: PhrasesConfig, is_blank: np.ndarray, is_punctuation: np.ndarray
) -> Found:
    """The phrases of the corpora together.

    is_blank, is_punctuation: [vocabulary] bool, tokens of only white space, and of only white space or punctuation.
    """
    total = sum(len(corpus.tokens) for corpus in corpora)
    every = max(1, -(-total // MOST_TOKENS))

    def batches() -> Iterator[tuple[int, TokenCorpus, _Words]]:
        for number, corpus in enumerate(corpora):
            for place, documents in enumerate(corpus.ranges(BATCH)):
                if place % every == 0:
                    yield number, corpus, _words(corpus, documents, is_blank, is_punctuation)

    tables: list[_Table] = []
    counted = 0
    for size in range(1, config.longest + 1):
        parts = []
        for number, _, words in batches():
            keys, first = _runs(words, tables, size)
            place = np.stack([np.full(len(first), number), words.start[first], words.stop[first + size - 1]], axis=1)
            unique, index, count = np.unique(keys, return_index=True, return_counts=True)
            parts.append(_Table(unique, count, place[index]))
            counted += len(words.key) if size == 1 else 0
        tables.append(_frequent(parts, config.min_count))
        if not len(tables[-1].keys):
            break
    phrases = []
    for size in range(2, len(tables) + 1):
        scores = _weakest(corpora, tables, size, counted, is_blank, is_punctuation)
        for index in np.flatnonzero(scores >= config.npmi).tolist():
            number, start, stop = tables[size - 1].place[index].tolist()
            ids = tuple(corpora[number].tokens[start:stop].tolist())
            phrases.append(Phrase(ids, size, int(tables[size - 1].count[index]), round(float(scores[index]), 4)))
    phrases.sort(key=lambda phrase: (-phrase.count, -phrase.npmi, phrase.ids))
    return Found(phrases, counted, round(min(1.0, 1 / every), 6))


def npmi(count: np.ndarray, left: np.ndarray, right: np.ndarray, total: int) -> np.ndarray:
    """NPMI of runs that occur `count` times among `total` words, and their parts `left` and `right` times."""
    together = np.log(count) - np.log(total)
    return (together - np.log(left) - np.log(right) + 2 * np.log(total)) / np.maximum(-together, 1e-12)


def _words(corpus: TokenCorpus, documents: range, is_blank: np.ndarray, is_punctuation: np.ndarray) -> _Words:
    first, last = corpus.document_offsets[[documents.start, documents.stop]]
    sentences = np.asarray(corpus.sentence_offsets[first : last + 1])
    here = slice(int(sentences[0]), int(sentences[-1]))
    return words_of(np.asarray(corpus.tokens[here]), corpus.word_start[here], sentences, is_blank, is_punctuation)


def words_of(
    tokens: np.ndarray,
    word_start: np.ndarray,
    sentences: np.ndarray,
    is_blank: np.ndarray,
    is_punctuation: np.ndarray,
) -> _Words:
    """The words of tokens [n], of which the first has the place sentences[0] in its corpus."""
    base = int(sentences[0])
    begins = np.array(word_start, bool)
    begins[(sentences - base)[:-1][np.diff(sentences) > 0]] = True
    solid = np.flatnonzero(~is_punctuation[tokens])
    word = (np.cumsum(begins) - 1)[solid]
    first = np.flatnonzero(np.diff(word, prepend=-1))  # the first solid token of each word that has one
    start, stop = solid[first], solid[np.append(first[1:], len(solid))[: len(first)] - 1] + 1
    lengths = stop - start
    ids = Ragged.from_lengths(
        tokens[np.repeat(start - offsets_of(lengths)[:-1], lengths) + np.arange(lengths.sum())], lengths
    )
    mixed = mix((ids.values.astype(np.uint64) << np.uint64(20)) + ids.positions().astype(np.uint64))
    key = np.add.reduceat(mixed, ids.offsets[:-1]) if len(start) else np.empty(0, np.uint64)
    visible = offsets_of(~is_blank[tokens])
    sentence = np.searchsorted(sentences - base, start, side="right")
    joined = np.zeros(len(start), bool)
    joined[:-1] = (sentence[1:] == sentence[:-1]) & (visible[start[1:]] == visible[stop[:-1]])
    return _Words(start + base, stop + base, key, joined)


def _runs(words: _Words, tables: Sequence[_Table], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the runs of `size` words that may be frequent, and the first word of each. Both [R]."""
    if size == 1:
        return words.key, np.arange(len(words.key))
    index = _indices(words, tables, size - 1)
    first = np.flatnonzero((index[:-1] >= 0) & (index[1:] >= 0) & words.joined[:-1])
    return _pair(index[first], index[first + 1], tables[size - 2]), first


def _indices(words: _Words, tables: Sequence[_Table], size: int) -> np.ndarray:
    """[W]: the index in its table of the run of `size` words that begins at each word; −1: not frequent."""
    index = tables[0].find(words.key)
    for table, shorter in zip(tables[1:size], tables, strict=False):
        longer = np.full(len(index), -1)
        both = np.flatnonzero((index[:-1] >= 0) & (index[1:] >= 0) & words.joined[:-1])
        longer[both] = table.find(_pair(index[both], index[both + 1], shorter))
        index = longer
    return index


def _pair(left: np.ndarray, right: np.ndarray, table: _Table) -> np.ndarray:
    """The key of a run, from the indices of its beginning and its end, each one word shorter."""
    return left.astype(np.uint64) * np.uint64(len(table.keys)) + right.astype(np.uint64)


def _frequent(parts: Sequence[_Table], min_count: int) -> _Table:
    """The tables of parts of the corpus added up, without what is rare."""
    if not parts:
        return _Table(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, 3), np.int64))
    keys, index, inverse = np.unique(
        np.concatenate([part.keys for part in parts]), return_index=True, return_inverse=True
    )
    count = np.zeros(len(keys), np.int64)
    np.add.at(count, inverse, np.concatenate([part.count for part in parts]))
    place = np.concatenate([part.place for part in parts])[index]
    kept = count >= min_count
    return _Table(keys[kept], count[kept], place[kept])


def _weakest(
    corpora: Sequence[TokenCorpus],
    tables: Sequence[_Table],
    size: int,
    total: int,
    is_blank: np.ndarray,
    is_punctuation: np.ndarray,
) -> np.ndarray:
    """[G]: the least NPMI of each frequent run of `size` words over the places where it can be cut in two."""
    table = tables[size - 1]
    scores = np.full(len(table.keys), np.inf)
    if not len(scores):
        return scores
    # One occurrence of each run, as if each were a sentence: its parts are looked up there.
    lengths = table.place[:, 2] - table.place[:, 1]
    spans = [corpora[number].tokens[start:stop] for number, start, stop in table.place.tolist()]
    starts = [corpora[number].word_start[start:stop] for number, start, stop in table.place.tolist()]
    words = words_of(np.concatenate(spans), np.concatenate(starts), offsets_of(lengths), is_blank, is_punctuation)
    indices = [_indices(words, tables, length) for length in range(1, size)]
    first = np.arange(len(table.keys)) * size
    for cut in range(1, size):
        left = tables[cut - 1].count[indices[cut - 1][first]]
        right = tables[size - cut - 1].count[indices[size - cut - 1][first + cut]]
        scores = np.minimum(scores, npmi(table.count, left, right, total))
    return scores
