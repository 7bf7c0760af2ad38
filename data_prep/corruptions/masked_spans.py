"""Masked spans of whole words (SpanBERT: Joshi et al. 2020, arXiv:1907.10529, section 3.1, and its published code).

    x     this is an american football game
    x′    this is an [MASK] [MASK] game
    x″    american, football

Of a sequence of n tokens that are not special, ceil(rate · n) are hidden, in spans that are drawn one by one:

    length    in words, from a distribution over 1 … `longest` that sums to 1: geometric, p (1 − p)^(l − 1), of which
              the tail is cut off and not moved to `longest` (mean 3.797 words for p = 0.2); or reciprocal, 1 / l, the
              n-grams of ALBERT (Lan et al. 2020, arXiv:1909.11942, section 3.1)
    anchor    uniform among the tokens that are not hidden yet; the span begins with the word that it is in
    end       of the sequence, or where a special token stands; tokens inside that are hidden already cost nothing
    budget    the last span is cut where it is used up, if need be inside a word

Spans that overlap or touch are one span. Its fate is drawn once: 80 % [MASK], 10 % random tokens, one for each place,
10 % unchanged; `fate: token` draws it for each token, as the published code does unless told otherwise.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.corruptions.base import Counts, Needs, rounded_up
from data_prep.corruptions.masking import Sparse, SparseConfig, checked, chunks, hidden, replaced, sequence_starts
from data_prep.rng import Draws
from data_prep.settings import Belongs
from data_prep.shards.rows import Rows, Specials, offsets_of, ragged, runs

ANCHOR, LENGTH, FATE, RANDOM = range(4)  # draws
ROUND = 1 << 16  # a draw's position is that of the sequence's first token, plus the number of the round times this


class MaskedSpansConfig(SparseConfig):
    """The length of spans, how many tokens they hide, and what replaces them."""

    kind: Literal["masked-spans"]
    """Spans of whole words are hidden, and predicted in place, as in SpanBERT."""
    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a sequence's tokens, special ones not counted, to predict."""
    lengths: Literal["geometric", "reciprocal"] = "geometric"
    """Distribution of the spans' lengths: as in SpanBERT, or as ALBERT's n-grams."""
    p: float = Field(default=0.2, gt=0, lt=1)
    """Parameter of the geometric distribution."""
    longest: int = Field(default=10, ge=1, le=1000)
    """Most words in a span, before spans are merged (ALBERT: 3)."""
    fate: Literal["span", "token"] = "span"
    """Whether mask, random or keep is drawn for a whole span or for each of its tokens."""
    random_from: Literal["row", "vocabulary"] = "row"
    """Where random tokens come from: a random place of the same text, so that they are as frequent as in text (the
    published code takes any place of the corpus), or the vocabulary, all ids alike."""

    belongs: ClassVar[dict[str, Belongs]] = {
        "p": Belongs("lengths geometric", lambda config: config.lengths == "geometric"),
        "random_from": Belongs("random above 0", lambda config: config.random > 0),
    }

    @property
    def needs(self) -> Needs:
        return Needs(specials=("mask",) if self.mask else (), columns=("word_start",))

    @property
    def probabilities(self) -> np.ndarray:
        """[longest] of the lengths 1 … longest; they sum to 1."""
        length = np.arange(1, self.longest + 1)
        weights = (1 - self.p) ** (length - 1) if self.lengths == "geometric" else 1 / length
        return weights / weights.sum()

    @property
    def mean_length(self) -> float:
        """Expected length of a span, in words, before any is cut or merged."""
        return float(self.probabilities @ np.arange(1, self.longest + 1))


class MaskedSpans(Sparse):
    """See the module's docstring."""

    config: MaskedSpansConfig
    reads = ("input", "sequence", "word_start")

    def __init__(self, config: MaskedSpansConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("masking needs the special ids of a vocabulary")
        self.specials = specials
        self.cumulative = np.cumsum(config.probabilities)[:-1]

    def counts(self, n: int) -> Counts:
        """For a sequence of `n` tokens, of which the first and the last are special."""
        return Counts(n, float(rounded_up(self.config.rate, np.array(max(n - 2, 0)))))

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """See `Corruption`; `input` is replaced by what `writes` says, positions uint16 and ascending."""
        tokens, config = checked(rows, self.config, draws), self.config
        row, position, opens = tokens.row_index(), tokens.positions(), sequence_starts(rows)
        is_text, word_start = ~self.specials.is_special[tokens.values], ragged(rows, "word_start").values != 0
        places, sources = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for part in chunks(tokens):
            text = _text(part.start, is_text[part], opens[part], word_start[part])
            if len(text.place):
                masked = self._chosen(text, draws, position, row)
                places.append(text.place[masked])
                sources.append(self._sources(text, masked, draws, position, row))
        index = np.concatenate(places)
        seen = tokens.values.copy()
        if config.random_from == "row":
            random = tokens.values[np.concatenate(sources)]
        else:
            ordinary = self.specials.ordinary
            random = ordinary[draws.below(len(ordinary), RANDOM, position[index], row[index])]
        first = np.append(True, (np.diff(index) > 1) | opens[index[1:]])[: len(index)]  # of each merged span
        decides = index[first][np.cumsum(first) - 1] if config.fate == "span" else index
        fate = draws.uniform(FATE, position[decides], row[decides])
        seen[index] = replaced(seen[index], random, fate, config, self.specials)
        return hidden(rows, index, seen)

    def _chosen(self, text: _Text, draws: Draws, position: np.ndarray, row: np.ndarray) -> np.ndarray:
        """[T] bool: the tokens to predict. Each round draws a span in all sequences that have a budget left."""
        masked = np.zeros(len(text.place), bool)
        size = np.diff(text.sequences)
        going = np.flatnonzero(size > 0)
        left = rounded_up(self.config.rate, size)[going]
        name, in_row = (of_all[text.place[text.sequences[going]]] for of_all in (position, row))
        while len(going):
            anchor = text.sequences[going] + draws.below(size[going], ANCHOR, name, in_row)
            length = np.searchsorted(self.cumulative, draws.uniform(LENGTH, name, in_row), side="right")
            word = text.word[anchor]
            begin, end = text.words[word], text.words[np.minimum(word + length, text.last_word[anchor]) + 1]
            count = np.where(masked[anchor], 0, end - begin)
            inside = runs(begin, count)
            is_new = ~masked[inside]
            total = np.concatenate([[0], np.cumsum(is_new)])
            bounds = offsets_of(count)
            number = total[1:] - np.repeat(total[bounds[:-1]], count)  # of new tokens in the span so far
            masked[inside[number <= np.repeat(left, count)]] = True
            left = left - np.minimum(total[bounds[1:]] - total[bounds[:-1]], left)
            is_left = left > 0
            going, left, name, in_row = going[is_left], left[is_left], name[is_left] + ROUND, in_row[is_left]
        return masked

    def _sources(
        self, text: _Text, masked: np.ndarray, draws: Draws, position: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        """Places in all rows of tokens of the same sequences, one for each that is masked."""
        of = np.flatnonzero(masked)
        sequence = np.searchsorted(text.sequences, of, side="right") - 1
        place = text.place[of]
        size = np.diff(text.sequences)[sequence]
        return text.place[text.sequences[sequence] + draws.below(size, RANDOM, position[place], row[place])]


class _Text(NamedTuple):
    """The T tokens of a part of the rows that are not special, one after another.

    place: [T], where they are in all rows. sequences: [S + 1], of the T, where those begin that have text. words:
    [W + 1], where words begin. word, last_word: [T], each one's word, and the last before a special token or the end.
    """

    place: np.ndarray
    sequences: np.ndarray
    words: np.ndarray
    word: np.ndarray
    last_word: np.ndarray


def _text(first: int, is_text: np.ndarray, opens: np.ndarray, word_start: np.ndarray) -> _Text:
    """From arrays [n] of tokens, the first of which has place `first`: not special, begin a sequence, begin a word."""
    place = np.flatnonzero(is_text)
    sequence = np.cumsum(opens)[place]
    breaks = np.append(True, (np.diff(place) > 1) | opens[place[1:]])[: len(place)]  # a span ends before these
    begins = breaks | word_start[place]
    word = np.cumsum(begins) - 1
    words = np.append(np.flatnonzero(begins), len(place))
    stretch = np.cumsum(breaks) - 1
    last_of_stretch = np.append(word[np.flatnonzero(breaks)[1:]] - 1, word[-1:])
    sequences = np.append(np.flatnonzero(np.diff(sequence, prepend=-1)), len(place))
    return _Text(first + place, sequences, words, word, last_of_stretch[stretch])


Config = MaskedSpansConfig


def build(config: MaskedSpansConfig, specials: Specials | None = None) -> MaskedSpans:
    return MaskedSpans(config, specials)
