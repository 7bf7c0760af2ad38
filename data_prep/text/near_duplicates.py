"""Near duplicates: documents that share most of their word n-grams, found without comparing all pairs.

The similarity of two documents is the Jaccard similarity of their sets of word n-grams. MinHash (Broder
1997, "On the resemblance and containment of documents") turns a set into a signature, one small number per
permutation; the expected share of equal numbers in two signatures is the similarity of the documents.
Locality-sensitive hashing cuts signatures into bands, and only documents that agree in all rows of
some band are compared. Lee et al. 2021 ("Deduplicating training data makes language models better")
clean corpora this way, with word 5-grams and similarity 0.8.

Documents are numbered in reading order. Results depend only on the texts and the config, not on
the machine, the number of threads, the memory limit or the batching of documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import xxhash
from pydantic import BaseModel, ConfigDict, Field

from data_prep.corpus.external_memory import ROWS_IN_MEMORY, earlier_equals
from data_prep.rng import absorb
from data_prep.shards.rows import offsets_of
from data_prep.text.words import words_or_letters

_SEED = 1  # of the permutations; determines the signatures
_MISS_WEIGHT = 0.9  # against 0.1 for an unnecessary comparison, which only costs time
_COMPARED = 1 << 13  # pairs of signatures in memory at once


class NearDuplicateConfig(BaseModel):
    """When two documents count as near duplicates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Minimum Jaccard similarity of the sets of n-grams of duplicates."""
    ngram: Annotated[int, Field(ge=1, le=100)] = 5
    """Words per n-gram; a shorter text is one n-gram, and a text without words counts as one word."""
    permutations: Annotated[int, Field(ge=8, le=4096)] = 128
    """Numbers per signature; the error of the estimated similarity decreases with the square root."""

    @property
    def bands(self) -> tuple[int, int]:
        """(number of bands, rows per band). A few numbers of a signature may be unused."""
        return _best_bands(self.threshold, self.permutations)


@lru_cache
def _best_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """The bands that minimise the weighted sum of both errors, over uniformly distributed similarities.

    Documents of similarity s agree in one of b bands of r rows with probability 1 - (1 - sʳ)ᵇ. The
    errors are that probability below the threshold, and its complement above.
    """
    similarity = (np.arange(1000) + 0.5) / 1000
    alike = similarity >= threshold
    rows = np.arange(1, permutations + 1)
    bands = permutations // rows  # as many as fit: fewer bands miss more pairs
    missed = (1 - similarity ** rows[:, None]) ** bands[:, None]
    error = np.where(alike, _MISS_WEIGHT * missed, (1 - _MISS_WEIGHT) * (1 - missed)).sum(1)
    best = int(error.argmin())
    return int(bands[best]), int(rows[best])


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        self[word] = value = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


def signatures(texts: Sequence[str], config: NearDuplicateConfig) -> np.ndarray:
    """MinHash signatures [n, permutations] uint32. Memory grows with the texts; pass a few megabytes per call."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)

    hashes = _WordHashes()
    lengths = np.zeros(len(texts), np.int64)
    flat = []
    for number, text in enumerate(texts):
        row = [hashes[word] for word in words_or_letters(text) or [text.casefold()]]
        row += [0] * (config.ngram - len(row))
        lengths[number] = len(row)
        flat.append(np.array(row, np.uint64))
    if not flat:
        return np.empty((0, config.permutations), np.uint32)
    word = np.concatenate(flat)
    starts = np.ones(len(word), bool)  # where an n-gram begins that ends in the same text
    ends = np.cumsum(lengths)
    for back in range(1, config.ngram):
        starts[ends - back] = False
    place = np.flatnonzero(starts)
    ngrams = np.zeros(len(place), np.uint64)
    for step in range(config.ngram):
        ngrams = absorb(ngrams, word[place + step])
    offsets = offsets_of(lengths - config.ngram + 1).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(ngrams, offsets, config.permutations, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def near_duplicates(
    signatures: np.ndarray, config: NearDuplicateConfig, scratch: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[np.ndarray]:
    """Arrays [m, 2] int64 of (row, representative row), in ascending order of rows.

    Rows are near duplicates if they are connected by a chain of rows in which the signatures of
    neighbours agree to at least `config.threshold`; the representative is the first row of the
    connected component. Rows that represent themselves are left out.

    signatures: [n, permutations] uint32. They are read once in order and then row by row for
    comparisons, so a memory map of a file (`np.load(…, mmap_mode="r")`) bounds memory, except for
    about 100 bytes per near duplicate. `scratch` needs up to 24 bytes per row and band, and up to
    twice that if rows agree.

    In every band a row is compared only with the first and the previous row that agree with it, so
    time is linear even if a text is repeated often. A match is missed if, in all bands that two rows
    share, rows that match neither of them come first and between them.
    """
    bands, _ = config.bands
    forest, waiting, waiting_rows = np.empty((0, 2), np.int64), [], 0
    for links in earlier_equals(_band_keys(signatures, config, rows_in_memory), scratch, rows_in_memory):
        pairs = _distinct(np.concatenate([links[:, :2], links[:, ::2]]) // bands)
        waiting.append(_alike(signatures, pairs, config.threshold))
        waiting_rows += len(waiting[-1])
        if waiting_rows > len(forest) + rows_in_memory:
            forest, waiting, waiting_rows = _forest(np.concatenate([forest, *waiting])), [], 0
    forest = _forest(np.concatenate([forest, *waiting]))
    for start in range(0, len(forest), rows_in_memory):
        yield forest[start : start + rows_in_memory]


def _band_keys(signatures: np.ndarray, config: NearDuplicateConfig, rows_in_memory: int) -> Iterator[np.ndarray]:
    """Keys of all bands of row 0, then of row 1, …: a hash of the band's numbers, and its number."""
    bands, rows = config.bands
    step = max(1, min(rows_in_memory, 1 << 18) // bands)
    for start in range(0, len(signatures), step):
        part = np.asarray(signatures[start : start + step, : bands * rows])
        part = part.reshape(len(part), bands, rows).astype(np.uint64)
        keys = np.zeros((len(part), bands, 2), np.uint64)
        for row in range(rows):
            keys[:, :, 0] = absorb(keys[:, :, 0], part[:, :, row])
        keys[:, :, 1] = np.arange(bands)
        yield keys.reshape(-1, 2)


def _distinct(pairs: np.ndarray) -> np.ndarray:
    """The distinct pairs, sorted."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[new]


def _alike(signatures: np.ndarray, pairs: np.ndarray, threshold: float) -> np.ndarray:
    """The pairs of rows whose signatures agree in at least a share `threshold` of their numbers."""
    parts = [pairs[start : start + _COMPARED] for start in range(0, len(pairs), _COMPARED)]
    agree = [(signatures[part[:, 0]] == signatures[part[:, 1]]).mean(1) for part in parts]
    return pairs[np.concatenate([np.empty(0), *agree]) >= threshold]


def _forest(pairs: np.ndarray) -> np.ndarray:
    """[m, 2]: every connected row except the first of its component, with that first row; in ascending order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return pairs
    rows, ends = np.unique(pairs, return_inverse=True)
    left, right = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(len(rows), len(rows)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)  # rows are ascending: the first is the smallest
    links = np.column_stack([rows, rows[first[component]]])
    return links[links[:, 0] != links[:, 1]]
