"""Repeated spans: of sentences that occur together more than once in all documents, only the first ones stay.

C4 "discarded all but one of any three-sentence span occurring more than once in the data set" (Raffel et al. 2020,
section 2.2). The code published with the paper compares single lines; this module does what the paper says:

- A span is n consecutive sentences (three by default) of one document. Its text is cleaned and masked, then split by
  `data_prep.text.sentences`. Spans overlap; a document of fewer than n sentences has none. Two spans are equal if their
  sentences are, regardless of letter case.
- All documents of all sources are one data set, without those rejected for another reason, such as duplicates and near
  duplicates. Documents are read in the order of the sources and of their files.
- A span is a repeat if an equal one begins earlier, in an earlier document or in the same one. Every sentence in a
  repeat is removed; the others stay, in their order. So an earlier copy of each removed sentence stays.
- A document that lost sentences is rejected (`TOO_LITTLE`) if none are left, or fewer than `c4.min_sentences`, or fewer
  characters than `min_characters`. Its spans count nevertheless. What is left is not examined again: sentences that
  become neighbours form no new spans.

Spans are hashed to 128 bits when their unit is read, and compared in external memory, so memory use does not grow with
their number. Files of a unit with R rows and T sentences:

spans.u64       [T, 2] hash of the span that begins at each sentence; zeros where none begins
sentences.u32   [R] number of sentences of each row
lengths.u32     [T] number of characters of each sentence
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import DTypeLike

from data_prep.corpus import external_memory
from data_prep.rng import absorb
from data_prep.shards.rows import offsets_of

SENTENCE = "c4: sentence of a repeated span"
TOO_LITTLE = "c4: too little but repeated spans"
_SPANS, _SENTENCES, _LENGTHS = "spans.u64", "sentences.u32", "lengths.u32"
_WAITING = 4096  # sentences
_AT_ONCE = 1 << 18  # sentences, or those of one document


def span_keys(documents: Sequence[Sequence[str]], n: int) -> np.ndarray:
    """uint64 [T, 2]: key of the span that begins at each of the documents' T sentences; zeros where none begins."""
    lengths = [len(sentences) for sentences in documents]
    ends = np.repeat(np.cumsum(lengths), lengths)
    place = np.flatnonzero(np.arange(len(ends)) + n <= ends)
    hashes = b"".join(
        xxhash.xxh3_128_digest(sentence.lower().encode()) for sentences in documents for sentence in sentences
    )
    words = np.frombuffer(hashes, ">u8").reshape(-1, 2).astype(np.uint64)
    spans = words[place]
    for step in range(1, n):
        spans = absorb(spans, words[place + step])
    keys = np.zeros((len(ends), 2), np.uint64)
    keys[place] = spans
    return keys


class SpanFiles:
    """Writes the files about a unit's sentences, as a context manager; see the module's docstring.

    folder: that of the unit. n: sentences of a span; None: nothing is written.
    """

    def __init__(self, folder: Path, n: int | None) -> None:
        self._folder, self._n = folder, n
        self._files: list[BinaryIO] = []
        self._documents: list[Sequence[str]] = []
        self._waiting = 0

    def __enter__(self) -> SpanFiles:
        if self._n is not None:
            self._files = [(self._folder / name).open("wb") for name in (_SPANS, _SENTENCES, _LENGTHS)]
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            for file in self._files:
                file.close()

    def write(self, sentences: Sequence[str]) -> None:
        """Add the sentences of the next row."""
        if self._n is not None:
            self._documents.append(sentences)
            self._waiting += len(sentences)
            if self._waiting >= _WAITING:
                self._flush()

    def _flush(self) -> None:
        if self._n is not None and self._documents:
            lengths = [len(sentence) for sentences in self._documents for sentence in sentences]
            counts = [len(sentences) for sentences in self._documents]
            arrays = span_keys(self._documents, self._n), np.array(counts, np.uint32), np.array(lengths, np.uint32)
            for file, array in zip(self._files, arrays, strict=True):
                file.write(array.tobytes())
            self._documents, self._waiting = [], 0


class Marks(NamedTuple):
    """Which sentences of a unit are removed: one byte each, in a file for all units."""

    path: Path
    first: int
    """Position of the unit's first sentence in the file."""

    def read(self, span: slice) -> np.ndarray:
        """bool [n]: whether sentences number `span` of the unit are removed."""
        return _read(self.path, bool, slice(self.first + span.start, self.first + span.stop))


class Repeats(NamedTuple):
    """Which sentences of all units are removed."""

    marks: list[Marks]
    """Marks of each unit."""
    too_little: np.ndarray
    """bool [N]: rows of which too little is left."""
    sentences: int
    """Number of sentences removed from rows that stay."""


class MinimumLeft(NamedTuple):
    """Minimum numbers of sentences and of characters that a document must have left."""

    sentences: int
    characters: int


def find_repeats(
    folders: Sequence[Path],
    without: np.ndarray,
    n: int,
    minimum: MinimumLeft,
    scratch: Path,
    rows_in_memory: int = external_memory.ROWS_IN_MEMORY,
) -> Repeats:
    """Find the sentences to remove from the rows in `folders`, one for each unit, written by `SpanFiles`.

    without: bool [N], rows that neither count nor lose sentences. n: sentences of a span. scratch: folder for temporary
    files and for the marks. rows_in_memory: number of spans compared in memory at once.

    Needs 25 bytes of disk below `scratch` per sentence, or 73 if all spans are equal; one byte, the mark, stays there.
    """
    sizes = [(folder / _LENGTHS).stat().st_size // 4 for folder in folders]
    offsets, path = offsets_of(sizes).tolist(), scratch / "repeated"
    marks = [Marks(path, first) for first in offsets[:-1]]
    with path.open("wb") as file:
        file.truncate(offsets[-1])
    for links in external_memory.first_of_equals(_keys(folders, without), scratch, rows_in_memory):
        _mark(path, links[:, 0], n)
    too_little, lost, row = np.zeros(len(without), bool), 0, 0
    for folder, mine in zip(folders, marks, strict=True):
        for counts, span in _stretches(folder):
            goes, ends, lengths = mine.read(span), offsets_of(counts), _read(folder / _LENGTHS, np.uint32, span)
            gone = _sums(goes, ends)
            stay, characters = counts - gone, _sums(np.where(goes, 0, lengths), ends)
            characters += stay - 1  # spaces between them
            bare = (gone > 0) & ((stay < max(minimum.sentences, 1)) | (characters < minimum.characters))
            too_little[row : row + len(counts)] = bare
            lost += int(gone[~bare].sum())
            row += len(counts)
    return Repeats(marks, too_little, lost)


def without_marked(sentences: pa.ListArray, marked: np.ndarray) -> pa.ListArray:
    """Lists of sentences without the marked ones. marked: bool [T], for all values of the lists in order."""
    if not marked.any():
        return sentences
    values, offsets = sentences.flatten(), offsets_of(sentences.value_lengths().to_numpy())
    stay = offsets_of(~marked)[offsets].astype(np.int32)
    return pa.ListArray.from_arrays(stay, values.filter(pa.array(~marked)), sentences.type)


def _keys(folders: Sequence[Path], without: np.ndarray) -> Iterator[np.ndarray]:
    """Keys [n, 2] of the span at each sentence; a unique key where there is none, or where it does not count."""
    row = sentence = 0
    for folder in folders:
        for counts, span in _stretches(folder):
            keys = _read(folder / _SPANS, np.uint64, slice(2 * span.start, 2 * span.stop)).reshape(-1, 2)
            out = np.flatnonzero(~keys.any(1) | np.repeat(without[row : row + len(counts)], counts))
            keys[out] = np.stack([absorb(4, out + sentence), absorb(5, out + sentence)], 1)
            yield keys
            row, sentence = row + len(counts), sentence + len(keys)


def _stretches(folder: Path) -> Iterator[tuple[np.ndarray, slice]]:
    """A unit in stretches of bounded size: numbers of sentences of its rows, int64 [r], and the slice of them all."""
    counts = np.fromfile(folder / _SENTENCES, np.uint32).astype(np.int64)
    offsets = offsets_of(counts)
    row = 0
    while row < len(counts):
        stop = max(row + 1, int(np.searchsorted(offsets, offsets[row] + _AT_ONCE, side="right")) - 1)
        yield counts[row:stop], slice(int(offsets[row]), int(offsets[stop]))
        row = stop


def _mark(path: Path, begins: np.ndarray, n: int) -> None:
    """Mark the n sentences from each of `begins` on, in ascending order. No span extends beyond its document."""
    with path.open("r+b") as file:
        for block in np.unique(begins // _AT_ONCE).tolist():
            first = block * _AT_ONCE
            marks = np.fromfile(path, bool, _AT_ONCE + n - 1, offset=first)
            mine = begins[begins // _AT_ONCE == block] - first
            marks[mine[:, None] + np.arange(n)] = True
            file.seek(first)
            file.write(marks.tobytes())
            file.flush()  # blocks overlap


def _read(path: Path, dtype: DTypeLike, span: slice) -> np.ndarray:
    """Values of a file at the positions `span`."""
    return np.fromfile(path, dtype, span.stop - span.start, offset=span.start * np.dtype(dtype).itemsize)


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [r]: the sum of each run of values."""
    return np.diff(offsets_of(values)[offsets])
