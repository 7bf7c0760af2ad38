"""Cuts documents into pairs of stretches of sentences, for NSP and SOP; see `data_prep.tokens.compose`."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, offsets_of
from data_prep.tokens.corpus import TokenCorpus

# Draws. For those of a pair, the position is the index of its first sentence in the document.
SHORT, TARGET, SPLIT, COIN, PARTNER, START = range(6)


class Spans(NamedTuple):
    """Spans of the corpus's tokens: start … stop-1 of each. Both [R] int64."""

    start: np.ndarray
    stop: np.ndarray

    @property
    def length(self) -> np.ndarray:
        return self.stop - self.start

    def where(self, condition: np.ndarray, other: Spans) -> Spans:
        """The spans of `other` where the condition holds, else these."""
        starts = np.where(condition, other.start, self.start)
        return Spans(starts, np.where(condition, other.stop, self.stop))


class Pairs(NamedTuple):
    """Chunks of sentences, cut in two. All [R].

    row: the document, as an index into the batch. start, half, stop: sentences, counted in their
    document: A is start … half-1, B is half … stop-1 unless it is foreign. label: bool.
    """

    row: np.ndarray
    start: np.ndarray
    half: np.ndarray
    stop: np.ndarray
    label: np.ndarray


def pairs_of(
    corpus: TokenCorpus, kind: str, draws: Draws, numbers: np.ndarray, target: np.ndarray, longest: int
) -> Pairs:
    """Cut each document's sentences into chunks of at least `target` tokens (the last one may have fewer).

    A chunk has two sentences or more, unless only one is left of the document; sop then leaves no single sentence.
    Of a chunk longer than `longest`, the last sentence is put back, unless rows are fuller if the chunk becomes
    several. In nsp, the half of a chunk that is replaced by a foreign B is reused: the next chunk begins there.
    """
    counts = corpus.document_offsets[numbers + 1] - corpus.document_offsets[numbers]
    sentences = Ragged.from_lengths(np.empty(counts.sum(), bool), counts)
    at = sentences.positions(), sentences.row_index()
    split = draws.bits(SPLIT, *at).tolist()
    coin = (draws.uniform(COIN, *at) < 0.5).tolist()
    rows: list[tuple[int, int, int, int, bool]] = []
    for row, number in enumerate(numbers.tolist()):
        first, last = corpus.document_offsets[number : number + 2].tolist()
        tokens = corpus.sentence_offsets[first : last + 1].tolist()
        base, count, goal = int(sentences.offsets[row]), last - first, int(target[row])
        start = 0
        while start < count:
            stop = min(bisect_left(tokens, tokens[start] + goal, start + 2), count)
            if stop - start > 2 and _too_long(tokens[stop] - tokens[start], tokens[stop - 1] - tokens[start], longest):
                stop -= 1
            if kind == "sop" and stop == count - 1:
                stop = stop - 1 if stop - start > 2 else count
            half = start + 1 + (split[base + start] * (stop - start - 1) >> 64)
            label = coin[base + start]
            if stop - start > 1:
                rows.append((row, start, half, stop, label))
                start = half if label and kind == "nsp" else stop
            else:
                if kind == "nsp":
                    rows.append((row, start, half, stop, True))
                start = stop
    row, start, half, stop, label = np.array(rows, np.int64).reshape(-1, 5).T
    return Pairs(row, start, half, stop, label.astype(bool))


def _too_long(tokens: int | np.ndarray, without_last: int | np.ndarray, longest: int) -> bool | np.ndarray:
    """Whether a pair's last sentence is to be put back: the pair needs several rows, and one is fuller without it."""
    return (tokens > longest) & (without_last * -(-tokens // longest) >= tokens)


def foreign(
    corpus: TokenCorpus,
    draws: Draws,
    pairs: Pairs,
    document: np.ndarray,
    before: np.ndarray,
    target: np.ndarray,
    longest: int,
    sources: np.ndarray | None = None,
) -> Spans:
    """Sentences (≥ 1) from a random position in another document, until the pair has `target` tokens.

    before: [R], tokens of A. sources: [D] number of each document's source; the other document is of the same one, if
    that has another with text. What makes a pair too long is put back as in `pairs_of`.
    """
    pool, own, low, high = _pool(corpus, document, sources)
    other = low + draws.below(high - low - 1, PARTNER, pairs.start, pairs.row)
    partner = pool[other + (other >= own)]
    first, last = corpus.document_offsets[partner], corpus.document_offsets[partner + 1]
    start = first + draws.below(last - first, START, pairs.start, pairs.row)
    begin = corpus.sentence_offsets[start]
    stop = np.clip(np.searchsorted(corpus.sentence_offsets, begin + target - before), start + 1, last)
    tokens, without_last = (before + corpus.sentence_offsets[end] - begin for end in (stop, stop - 1))
    stop = stop - ((stop - start > 1) & _too_long(tokens, without_last, longest))
    return Spans(begin, corpus.sentence_offsets[stop])


def _pool(
    corpus: TokenCorpus, document: np.ndarray, sources: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int | np.ndarray, int | np.ndarray]:
    """Documents with text, by source; for each of `document` its place among them, and where its source's are.

    That is all of them where the source has no other document.
    """
    if sources is None:
        return corpus.with_text, np.searchsorted(corpus.with_text, document), 0, len(corpus.with_text)
    pool = corpus.with_text[np.argsort(sources[corpus.with_text], kind="stable")]
    place = np.zeros(len(corpus), np.int64)
    place[pool] = np.arange(len(pool))
    low, high = (np.searchsorted(sources[pool], sources[document], side=side) for side in ("left", "right"))
    alone = high - low < 2
    return pool, place[document], np.where(alone, 0, low), np.where(alone, len(pool), high)


def windows(a: Spans, b: Spans, longest: int) -> tuple[np.ndarray, Spans, Spans]:
    """The pairs as rows of at most `longest` tokens: the pair of each row, and its stretches of A and B.

        A  a a a a a a a b b b    ─►    a a a a a   c c c        The fewest rows that hold all of A and of B.
        B  c c c d d d                  a a b b b   d d d        Stretches overlap where that fills a row.

    Row i of n has the i-th of n stretches of A and of B, evenly spaced. The shorter one gets what the longer leaves.
    """
    total = a.length + b.length
    in_proportion = longest * a.length // np.maximum(total, 1)
    wide = [np.clip(in_proportion + more, 1, longest - 1) for more in (0, 1)]  # A's best share of a row is one of these
    rows = [np.maximum(-(-a.length // width), -(-b.length // (longest - width))) for width in wide]
    count = np.where(total > longest, np.minimum(*rows), 1)
    a_longer = a.length > b.length
    long, short = np.maximum(a.length, b.length), np.minimum(a.length, b.length)
    width_short = np.minimum(short, longest - -(-long // count))
    width_long = np.minimum(long, longest - width_short)
    widths = np.where(a_longer, width_long, width_short), np.where(a_longer, width_short, width_long)
    pair = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(pair)) - offsets_of(count)[pair]
    stretches = []
    for spans, width in zip((a, b), widths, strict=True):
        spare = (spans.length - width)[pair]
        start = spans.start[pair] + number * spare // np.maximum(count[pair] - 1, 1)
        stretches.append(Spans(start, start + width[pair]))
    return pair, *stretches
