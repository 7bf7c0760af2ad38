"""BART's noise (Lewis et al. 2019, arXiv:1910.13461, section 2.2, and `denoising_dataset.py` of fairseq).

    x    <s> A B C . D E . </s>
    x′   <s> D E . A [MASK] . </s>       sentences permuted, then a span of two words infilled
    x″   x

What is done to a row's text, in this order; special tokens at a row's ends stay where they are:

    permutation  of n sentences, ceil(permute · n) change places among each other, all orders equally likely
    masking      units begin at distinct words, uniformly chosen, until ceil(rate · words) words are spent; what takes
                 their place is one [MASK] (`replace: mask`), one for each token (`masks`), or nothing: deletion.
                 unit `token` and `word` are as they say. Those of `span` have Poisson(mean_length) words, the last one
                 cut to the budget: text infilling. Spans may run into each other, so no more than the budget is hidden.
                 One of no words inserts a [MASK] anywhere in the text that is left, if that leaves x′ no longer than x
    insertion    ceil(insert · length) tokens anywhere in the text; length counts all tokens of the row
    rotation     with probability `rotate`, the text begins with its token number o, uniform in 0 … tokens, and what was
                 before that follows; the first and the last o change nothing

The share `random` of what would be a [MASK] is a token drawn uniformly from the vocabulary without its specials, by a
coin in masking and as ceil(random · number) of what is inserted. fairseq draws specials, too, and by a rounding error
sometimes inserts one [MASK] too many. Sentences are those of the column `sentence`, not whatever ends with a full stop.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from data_prep.corruptions.base import (
    Corruption,
    CorruptionConfig,
    Counts,
    Needs,
    Piece,
    Targets,
    check_rows,
    ends_of_text,
    rounded_up,
)
from data_prep.rng import Draws, key
from data_prep.settings import Belongs
from data_prep.shards.rows import Ragged, Rows, Specials, offsets_of, ragged, runs

PERMUTE, LENGTH, BEGIN, COIN, PLACE, RANDOM, INSERT, ROTATE, OFFSET = range(9)  # draws
LONGEST = 1 << 15  # tokens of a row, and processed at once: numbers in a row fit 16 bits, also after insertion
WORDS_PER_TOKEN = 0.75  # of the made-up rows that `counts` counts
COUNTED = 1 << 17  # their tokens


class BartConfig(CorruptionConfig):
    """Which of the five noises, and how strong; the defaults are those of the paper's large models."""

    kind: Literal["bart"]
    """Text is noised, and predicted whole."""
    permute: float = Field(default=1.0, ge=0, le=1)
    """Share of a row's sentences that change places."""
    rate: float = Field(default=0.3, ge=0, le=1)
    """Share of a row's words that are masked, infilled or deleted."""
    unit: Literal["token", "word", "span"] = "span"
    """What is masked as a whole: a token, a word, or a span of words."""
    mean_length: float = Field(default=3.0, ge=0.5, le=100)
    """Average length of a span, in words: λ of a Poisson distribution."""
    replace: Literal["mask", "masks", "nothing"] = "mask"
    """What takes a unit's place: one [MASK], one for each of its tokens, or nothing."""
    random: float = Field(default=0.0, ge=0, le=1)
    """Share of masks that are a random token instead."""
    insert: float = Field(default=0.0, ge=0, le=1)
    """Tokens that are inserted, as a share of those that are there."""
    rotate: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows that begin at another token."""

    belongs: ClassVar[dict[str, Belongs]] = {
        "unit": Belongs("rate above 0", lambda config: config.rate > 0),
        "replace": Belongs("rate above 0", lambda config: config.rate > 0),
        "mean_length": Belongs("unit span and rate above 0", lambda config: config.unit == "span" and config.rate > 0),
        "random": Belongs("replace mask or masks, or insert", lambda config: "mask" in config.needs.specials),
    }
    targets: ClassVar[Targets] = "sequence"
    items = "ids"
    writes = ("seen", "target_tokens")

    @property
    def needs(self) -> Needs:
        masks = (self.rate and self.replace != "nothing") or self.insert
        words = ("word_start",) if self.rate and self.unit != "token" else ()
        sentences = ("sentence",) if self.permute else ()
        return Needs(specials=("mask",) if masks else (), columns=(*words, *sentences), ends=True, single=True)

    @model_validator(mode="after")
    def _changes_something(self) -> BartConfig:
        if not (self.permute or self.rate or self.insert or self.rotate):
            raise ValueError("permute, rate, insert and rotate are all 0, which leaves nothing to restore")
        return self

    def raw_length(self, n: int) -> int:
        """See `CorruptionConfig`: x′ exceeds x only by inserted tokens."""
        raw = n
        while raw > 1 and raw + rounded_up(self.insert, np.array([raw]))[0] > n:
            raw -= 1
        return raw


class Text(NamedTuple):
    """Rows, and which of their tokens are text.

    tokens: Ragged [R]. inside: [N] bool. front, back: [R] int64, 1 where a special token begins or ends the row.
    """

    tokens: Ragged
    inside: np.ndarray
    front: np.ndarray
    back: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[R] int64: tokens of text."""
        return self.tokens.lengths - self.front - self.back

    def replaced(self, tokens: Ragged) -> Text:
        """Other tokens between the same ends."""
        inside = np.ones(len(tokens.values), bool)
        inside[tokens.offsets[:-1][self.front > 0]] = False
        inside[tokens.offsets[1:][self.back > 0] - 1] = False
        return Text(tokens, inside, self.front, self.back)


class Bart(Corruption):
    """BART's noise with a vocabulary's special ids."""

    config: BartConfig

    def __init__(self, config: BartConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("BART's noise needs the special ids of a vocabulary")
        self.specials = specials
        self.reads = ("input", *config.needs.columns)

    def counts(self, n: int) -> Counts:
        """Means over made-up rows of `n` tokens with special tokens at their ends, in sentences of 20 tokens."""
        return Counts(_mean_seen(self.config, n), n)  # type: ignore[arg-type] - frozen, so it can be hashed

    def restore(self, rows: Rows) -> Rows:
        clean = {name: column for name, column in rows.items() if name not in self.writes}
        return clean | {"input": rows["target_tokens"]}

    def filled(self, rows: Rows, written: Ragged) -> Ragged:
        return written

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        x, seen = (ragged(rows, name).row(row) for name in ("target_tokens", "seen"))
        mask = self.specials.get("mask")
        places = np.empty(0, np.int64) if mask is None else np.flatnonzero(seen == mask)
        return [Piece("x", x, np.empty(0, np.int64)), Piece("x′", seen, places)]

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """See `Corruption`; `input` becomes `target_tokens`."""
        check_rows(rows, self.config, draws)
        tokens = ragged(rows, "input")
        if len(tokens) and tokens.lengths.max() > LONGEST:
            raise ValueError(f"a row of {tokens.lengths.max()} tokens is longer than {LONGEST}")
        needed = {name: ragged(rows, name) for name in self.reads}
        parts, start = [needed["input"].slice(0, 0)], 0
        while start < len(tokens):
            stop = int(np.searchsorted(tokens.offsets, tokens.offsets[start] + LONGEST, side="right")) - 1
            part = {name: column.slice(start, stop) for name, column in needed.items()}
            parts.append(noised(part, self.config, self.specials, draws.take(np.arange(start, stop))))
            start = stop
        others = {name: column for name, column in rows.items() if name != "input"}
        return others | {"seen": Ragged.concat(parts), "target_tokens": tokens}


Config = BartConfig


def build(config: BartConfig, specials: Specials | None = None) -> Bart:
    return Bart(config, specials)


def noised(columns: dict[str, Ragged], config: BartConfig, specials: Specials, draws: Draws) -> Ragged:
    """x′ of a few rows. columns: `input`, and `word_start` and `sentence` where they are needed."""
    tokens = columns["input"]
    front, back = ends_of_text(tokens, specials)
    text = Text(tokens, tokens.values, front, back).replaced(tokens)
    begins = np.ones(len(tokens.values), bool)  # tokens that begin a word
    if "word_start" in columns:
        begins = columns["word_start"].values != 0
    begins[(tokens.offsets[:-1] + front)[text.lengths > 0]] = True
    if config.permute:
        order = permuted(text, columns["sentence"].values, begins, config.permute, draws)
        text = text.replaced(Ragged(tokens.values[order], tokens.offsets))
        begins = begins[order]
    if config.rate:
        text = masked(text, begins, config, specials, draws)
    if config.insert:
        count = rounded_up(config.insert, text.tokens.lengths)
        text = inserted(text, count, config, specials, draws, INSERT)
    if config.rotate:
        text = rotated(text, config.rotate, draws)
    return text.tokens


def permuted(text: Text, sentence: np.ndarray, begins: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    """[N] int64: which token comes where. sentence: [N], equal in a sentence. begins: [N] bool, changed in place.

    The first token of a sentence begins a word, wherever it comes.
    """
    opens = np.ones(len(sentence), bool)
    opens[1:] = sentence[1:] != sentence[:-1]
    first = text.tokens.offsets[:-1] + text.front
    opens[first[text.lengths > 0]] = True
    start = np.flatnonzero(opens & text.inside)
    begins[start] = True
    bounds = np.searchsorted(start, text.tokens.offsets)
    number = np.diff(bounds)
    stop = np.append(start[1:], 0)[: len(start)]
    stop[bounds[1:][number > 0] - 1] = (first + text.lengths)[number > 0]
    moving = drawn(draws, PERMUTE, number, rounded_up(share, number))
    new = np.arange(len(start))
    new[np.sort(moving)] = moving
    order = np.arange(len(sentence))
    order[text.inside] = runs(start[new], (stop - start)[new])
    return order


def masked(text: Text, begins: np.ndarray, config: BartConfig, specials: Specials, draws: Draws) -> Text:
    """The text with words masked, infilled or deleted. begins: [N] bool, tokens that begin a word."""
    tokens = text.tokens
    begins = begins | ~text.inside
    if config.unit == "token":
        begins[:] = True
    unit = np.flatnonzero(begins)  # words, and special tokens at the ends
    size = np.diff(unit, append=len(begins))
    word = np.flatnonzero(text.inside[unit])
    first = np.searchsorted(unit[word], tokens.offsets)
    number = np.diff(first)
    budget = rounded_up(config.rate, number)
    length, spans, empty = np.ones(budget.sum(), np.int64), budget, np.zeros(len(number), np.int64)
    if config.unit == "span":
        length, spans, empty = span_lengths(budget, config.mean_length, draws)
    begin = drawn(draws, BEGIN, number, spans)  # the word that each begins at
    row = np.repeat(np.arange(len(number)), spans)
    end = np.minimum(begin + length, first[1:][row])
    change = np.bincount(begin + 1, minlength=len(word) + 1) - np.bincount(end, minlength=len(word) + 1)
    inner = np.cumsum(change[:-1]) > 0  # words in a span, except its first
    opening = np.zeros(len(word), bool)
    opening[begin] = True
    hidden = np.zeros(len(unit), bool)
    hidden[word] = inner | opening
    values, keep = tokens.values, ~np.repeat(hidden, size)
    if config.replace != "nothing":
        shown = unit[word[opening & ~inner]] if config.replace == "mask" else np.flatnonzero(~keep)
        values = values.copy()
        values[shown] = _masks(tokens, shown, config, specials, draws)
        keep[shown] = True
    bounds = offsets_of(keep)[tokens.offsets]
    left = text.replaced(Ragged(values[keep], bounds))
    if config.replace != "mask" or not empty.any():
        return left
    return inserted(left, np.minimum(empty, tokens.lengths - np.diff(bounds)), config, specials, draws, PLACE)


def span_lengths(budget: np.ndarray, mean: float, draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poisson lengths that sum to `budget` [R]: those above 0 flat, their number [R], and the number of zeros [R].

    Draws of a row count until the budget is reached; the last one is cut to it.
    """
    table = _poisson(mean)
    lengths: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    row, left, start = np.flatnonzero(budget), budget[budget > 0], 0
    while len(row):
        steps = int(np.ceil(left.max() / mean)) + 4
        position = np.arange(start, start + steps)
        drawn_lengths = np.searchsorted(table, draws.uniform(LENGTH, position, row[:, None]), side="right")
        before = np.cumsum(drawn_lengths, axis=1) - drawn_lengths
        counts = before < left[:, None]
        lengths.append(np.minimum(drawn_lengths, left[:, None] - before)[counts])
        rows.append(np.repeat(row, counts.sum(1)))
        left = left - drawn_lengths.sum(1)
        row, left, start = row[left > 0], left[left > 0], start + steps
    if not rows:
        return np.empty(0, np.int64), np.zeros_like(budget), np.zeros_like(budget)
    length, owner = np.concatenate(lengths), np.concatenate(rows)
    order = np.argsort(owner, kind="stable")
    length, owner = length[order], owner[order]
    is_span = length > 0
    spans, empty = (np.bincount(owner[which], minlength=len(budget)) for which in (is_span, ~is_span))
    return length[is_span], spans, empty


def inserted(text: Text, count: np.ndarray, config: BartConfig, specials: Specials, draws: Draws, draw: int) -> Text:
    """The text with `count` [R] masks, or random tokens, anywhere in it; all ways to mix them in are equally likely."""
    tokens, sizes = text.tokens, text.lengths + count
    place = drawn(draws, draw, sizes, count)
    row = np.repeat(np.arange(len(count)), count)
    offsets = offsets_of(tokens.lengths + count)
    place = place - offsets_of(sizes)[row] + offsets[row] + text.front[row]
    is_new = np.zeros(offsets[-1], bool)
    is_new[place] = True
    values = np.empty(offsets[-1], tokens.values.dtype)
    values[~is_new] = tokens.values
    if config.random < 1:
        values[place] = specials.mask
    rank = np.arange(len(row)) - offsets_of(count)[row]
    random = rank < rounded_up(config.random, count)[row]
    if random.any():
        chosen = draws.below(len(specials.ordinary), RANDOM, LONGEST * (1 + draw) + rank[random], row[random])
        values[place[random]] = specials.ordinary[chosen]
    return text.replaced(Ragged(values, offsets))


def rotated(text: Text, probability: float, draws: Draws) -> Text:
    """The text of some rows begins at another token."""
    tokens, size = text.tokens, text.lengths
    turns = (draws.uniform(ROTATE) < probability) & (size > 0)
    by = np.where(turns, draws.below(size + 1, OFFSET), 0)
    first = tokens.offsets[:-1] + text.front
    place = runs(first[turns], size[turns])
    row = np.repeat(np.flatnonzero(turns), size[turns])
    values = tokens.values.copy()
    values[place] = tokens.values[first[row] + (place - first[row] + by[row]) % size[row]]
    return text.replaced(Ragged(values, tokens.offsets))


def drawn(draws: Draws, draw: int, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of `sizes` [R] things in each row, `counts` [R] in random order; all choices are equally likely.

    Returns [Σ counts] int64, row by row: numbers among the things of all rows. One sort of 64-bit words shuffles all:
    the row (16 bits), random bits (32), and the number in the row (16), which breaks ties.
    """
    rows = np.flatnonzero(counts)
    of_row = sizes[rows]
    place = np.repeat(np.arange(len(rows)), of_row)
    base = offsets_of(of_row)[:-1][place]
    number = np.arange(len(place)) - base
    words = draws.bits(draw, number, rows[place]) >> np.uint64(32) << np.uint64(16)
    words |= place.astype(np.uint64) << np.uint64(48)
    words |= number.astype(np.uint64)
    words.sort()
    taken = number < counts[rows][place]
    return offsets_of(sizes)[rows][place[taken]] + (words[taken] & np.uint64(0xFFFF)).astype(np.int64)


def _masks(tokens: Ragged, place: np.ndarray, config: BartConfig, specials: Specials, draws: Draws) -> np.ndarray:
    """What takes the place of the tokens at `place` [M]: masks, and the share of random ones."""
    row = np.searchsorted(tokens.offsets, place, side="right") - 1
    position = place - tokens.offsets[row]
    values = np.full(len(place), specials.need("mask") if config.random < 1 else 0)
    if config.random:
        random = draws.uniform(COIN, position, row) < config.random
        chosen = draws.below(len(specials.ordinary), RANDOM, position[random], row[random])
        values[random] = specials.ordinary[chosen]
    return values


@lru_cache(maxsize=8)
def _poisson(mean: float) -> np.ndarray:
    """Probabilities of at most 0, 1, 2, … events, as far as they differ from 1."""
    most = math.ceil(mean + 12 * math.sqrt(mean) + 20)
    return np.cumsum(math.exp(-mean) * np.cumprod(np.append(1.0, mean / np.arange(1, most))))


@lru_cache(maxsize=64)
def _mean_seen(config: BartConfig, n: int) -> float:
    """Mean length of x′ over rows of n made-up tokens, of which the first and the last are special."""
    count, specials = max(16, COUNTED // n), Specials(64, bos=0, eos=1, mask=2)
    random = np.random.default_rng(n)
    ids = random.integers(3, 64, (count, n))
    ids[:, 0], ids[:, -1] = 0, 1
    lengths = np.full(count, n)
    columns = {
        "input": Ragged.from_lengths(ids.ravel(), lengths),
        "word_start": Ragged.from_lengths((random.random(count * n) < WORDS_PER_TOKEN).astype(np.uint8), lengths),
        "sentence": Ragged.from_lengths(np.tile(np.arange(n) // 20, count), lengths),
    }
    corruption = Bart(config, specials)
    return float(ragged(corruption({**columns}, Draws(key(0, "counts"), 0, np.arange(count))), "seen").lengths.mean())
