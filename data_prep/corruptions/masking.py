"""Masked language modelling: x ──► what the network sees (x′), what it must predict (x″).

`corrupt` is a pure function of each row and of the row's keyed draws, so results do not depend on how
rows are batched. The definitions are BERT's (Devlin et al. 2018, section 3.1, and the code published
with it):

    budget   min(max_predictions, max(1, round(rate · length))): an exact count per sequence, halves
             rounded to even; length counts [CLS] and [SEP], but not padding; max_predictions may be left out
    chosen   uniformly among the tokens that are neither special nor padding
    fate     80 % become [MASK], 10 % a token drawn uniformly from the vocabulary without its
             specials, 10 % are unchanged

Unit "word" is whole word masking: words are chosen in random order, and skipped if they would exceed
the budget; the fate is still drawn per piece. Unit "phrase" does the same with phrases and entities, of a
lexicon or found in the corpus, and with words that are in none (ERNIE: Sun et al. 2019, section 3.2). The
published code chooses each unit by a coin of its own; here the budget is exact, as for tokens. mask = 0,
random = 1 replaces all chosen tokens by random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Needs, Piece, Targets, check_rows
from data_prep.rng import Draws
from data_prep.settings import changed_default
from data_prep.shards.rows import Ragged, Rows, Specials, offsets_of, ragged, take

CHOOSE, FATE, RANDOM, LEVEL = range(4)  # draws
CHUNK = 1 << 16  # tokens to process at a time: fits the CPU cache, and positions fit 16 bits


class SparseConfig(CorruptionConfig):
    """Tokens are hidden in place, and what stood there is predicted. The shares mask, random and keep sum to 1."""

    mask: float = Field(default=0.8, ge=0, le=1)
    """Share of the chosen tokens that become [MASK]."""
    random: float = Field(default=0.1, ge=0, le=1)
    """Share of the chosen tokens that become a random token."""
    keep: float = Field(default=0.1, ge=0, le=1)
    """Share of the chosen tokens that are unchanged."""

    targets: ClassVar[Targets] = "sparse"
    items = "ids"
    writes = ("seen", "target_positions", "target_ids")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SparseConfig:
        if abs(self.mask + self.random + self.keep - 1) > 1e-9:
            shares = f"{self.mask} + {self.random} + {self.keep}"
            raise ValueError(f"mask, random and keep must sum to 1, and {shares} does not")
        return self


class MaskingConfig(SparseConfig):
    """How to mask."""

    kind: Literal["masked-lm"]
    """Tokens are hidden, and predicted in place."""
    unit: Literal["token", "word", "phrase"] = "token"
    """What is chosen as a whole; phrase: the phrases of `compose.lexicon` or `compose.phrases`, and all other words."""
    rate: float = Field(default=0.15, gt=0, le=1)
    """Share of a sequence's tokens to predict."""
    max_predictions: int | None = changed_default(20, now=None, ge=1)
    """Maximum tokens to predict in one sequence; null: as many as the rate asks for."""

    basic: float = Field(default=0.0, ge=0, le=1)
    """Share of rows in which words are masked although the unit is phrase: ERNIE's basic level, beside that of phrases
    and entities."""

    @property
    def needs(self) -> Needs:
        columns = {"token": (), "word": ("word_start",), "phrase": ("unit", *(("word_start",) if self.basic else ()))}
        return Needs(specials=("mask",) if self.mask else (), columns=columns[self.unit])

    @model_validator(mode="after")
    def _basic_is_beside_phrases(self) -> MaskingConfig:
        if self.basic and self.unit != "phrase":
            raise ValueError(f"basic is a share of rows beside those of unit phrase, and unit is {self.unit}")
        return self


def corrupt(rows: Rows, config: MaskingConfig, specials: Specials, draws: Draws) -> Rows:
    """The rows with `seen` (x′), `target_positions` (uint16) and `target_ids` instead of `input` (see `restore`).

    rows: `input` [R rows]; for unit "word" also `word_start`, for "phrase" `unit`; with `sequence`, each
    run of equal values in a row is a separate sequence with its own budget. draws: one sample per row.
    Targets are Ragged, with ascending positions. Other columns are passed through; nothing changes in
    place.

    Raises what `check_rows` raises, and ValueError if rows are longer than 65,536 tokens.
    """
    tokens = checked(rows, config, draws)
    row, position = tokens.row_index(), tokens.positions()
    opens = sequence_starts(rows)
    unit_start = _unit_starts(rows, config, draws)
    chosen, pad = [np.empty(0, np.int64)], specials.get("pad")
    for part in chunks(tokens):
        unit, size = _units(
            specials.is_special[tokens.values[part]],
            opens[part],
            None if unit_start is None else unit_start[part],
        )
        bits = draws.bits(CHOOSE, position[part][unit], row[part][unit])
        counted = np.ones(len(opens[part]), bool) if pad is None else tokens.values[part] != pad
        chosen.append(part.start + _choose(unit, size, bits, opens[part], counted, config))
    index = np.concatenate(chosen)

    seen = tokens.values.copy()
    at = position[index], row[index]
    random = specials.ordinary[draws.below(len(specials.ordinary), RANDOM, *at)]
    seen[index] = replaced(seen[index], random, draws.uniform(FATE, *at), config, specials)
    return hidden(rows, index, seen)


def hidden(rows: Rows, index: np.ndarray, seen: np.ndarray) -> Rows:
    """The rows with `seen` [N], and with targets at `index` [M], ascending places in all rows, instead of `input`."""
    tokens = ragged(rows, "input")
    offsets = np.searchsorted(index, tokens.offsets)
    positions = index - np.repeat(tokens.offsets[:-1], np.diff(offsets))
    other_columns = {name: column for name, column in rows.items() if name != "input"}
    return other_columns | {
        "seen": Ragged(seen, tokens.offsets),
        "target_positions": Ragged(positions.astype(np.uint16), offsets),
        "target_ids": Ragged(tokens.values[index], offsets),
    }


def checked(rows: Rows, config: CorruptionConfig, draws: Draws) -> Ragged:
    """The tokens x of rows that are to be corrupted; for what it raises see `corrupt`."""
    check_rows(rows, config, draws)
    tokens = ragged(rows, "input")
    if len(tokens) and tokens.lengths.max() > CHUNK:
        raise ValueError(f"a row of {tokens.lengths.max()} tokens is longer than {CHUNK}")
    return tokens


def sequence_starts(rows: Rows) -> np.ndarray:
    """[N] bool: tokens of `input` with which a row or, in a row of several, a sequence begins."""
    tokens = ragged(rows, "input")
    starts = tokens.positions() == 0
    if "sequence" in rows:
        starts[1:] |= np.diff(ragged(rows, "sequence").values) != 0
    return starts


def restore(rows: Rows) -> Ragged:
    """The clean tokens x: the corrupted ones with the targets put back."""
    tokens, positions = ragged(rows, "seen"), ragged(rows, "target_positions")
    values = tokens.values.copy()
    index = np.repeat(tokens.offsets[:-1], positions.lengths) + positions.values
    values[index] = ragged(rows, "target_ids").values
    return Ragged(values, tokens.offsets)


class Sparse(Corruption):
    """Base of corruptions that hide tokens in place, and leave what stood at `target_positions`."""

    def restore(self, rows: Rows) -> Rows:
        return {name: column for name, column in rows.items() if name not in self.writes} | {"input": restore(rows)}

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        example = take({name: rows[name] for name in self.writes}, [row])
        seen, positions, ids = (ragged(example, name).values for name in self.writes)
        places = positions.astype(np.int64)
        return [Piece("x", restore(example).values, places), Piece("x′", seen, places), Piece("x″", ids, places)]


class Masking(Sparse):
    """Masked language modelling with a vocabulary's special ids."""

    config: MaskingConfig

    def __init__(self, config: MaskingConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("masking needs the special ids of a vocabulary")
        self.specials = specials
        self.reads = ("input", "sequence", *config.needs.columns)

    def counts(self, n: int) -> Counts:
        """For a sequence of `n` tokens, including specials; with whole units, slightly fewer are predicted."""
        return Counts(n, float(budget(self.config, n)))

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        return corrupt(rows, self.config, self.specials, draws)


Config = MaskingConfig


def build(config: MaskingConfig, specials: Specials | None = None) -> Masking:
    return Masking(config, specials)


def budget(config: MaskingConfig, length: ArrayLike) -> np.ndarray:
    """Number of tokens to predict in sequences of `length` tokens; float64, in the shape of `length`."""
    asked = np.maximum(1, np.rint(config.rate * np.asarray(length)))
    return asked if config.max_predictions is None else np.minimum(config.max_predictions, asked)


def chunks(tokens: Ragged) -> Iterator[slice]:
    """Ranges of the values of complete rows, at most CHUNK long (no row is longer)."""
    start = 0
    while start < len(tokens):
        limit = tokens.offsets[start] + CHUNK
        stop = int(np.searchsorted(tokens.offsets, limit, side="right")) - 1
        if tokens.offsets[stop] > tokens.offsets[start]:
            yield slice(int(tokens.offsets[start]), int(tokens.offsets[stop]))
        start = stop


def _unit_starts(rows: Rows, config: MaskingConfig, draws: Draws) -> np.ndarray | None:
    """[N] bool: tokens that begin a word or phrase; None if each token is a unit."""
    if config.unit == "token":
        return None
    if config.unit == "word":
        return ragged(rows, "word_start").values != 0
    unit = ragged(rows, "unit")
    starts = np.append(True, unit.values[1:] != unit.values[:-1])[: len(unit.values)]
    if not config.basic:
        return starts
    is_basic = np.repeat(draws.uniform(LEVEL) < config.basic, unit.lengths)
    return np.where(is_basic, ragged(rows, "word_start").values != 0, starts)


def _units(special: np.ndarray, opens: np.ndarray, unit_start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Units that are chosen together: the start and length of each. Both [U] int64.

    Units are tokens if `unit_start` is None. special, opens, unit_start: [N] bool. A token whose unit
    began before the sequence, or before a special token, starts a new one.
    """
    text = ~special
    if unit_start is None:
        unit = np.flatnonzero(text)
        return unit, np.ones(len(unit), np.int64)
    begins = text & (opens | unit_start)
    begins[1:] |= text[1:] & special[:-1]
    unit = np.flatnonzero(begins)
    return unit, np.diff(np.cumsum(text)[unit], append=text.sum() + 1)


def _choose(
    unit: np.ndarray,
    size: np.ndarray,
    bits: np.ndarray,
    opens: np.ndarray,
    counts: np.ndarray,
    config: MaskingConfig,
) -> np.ndarray:
    """Positions of the tokens to predict, in ascending order.

    unit, size, bits: [U], start, length and random bits of each unit. opens, counts: [N] bool,
    tokens that begin a sequence, and tokens that count towards its length.
    """
    sequence = np.cumsum(opens) - 1
    length = np.bincount(sequence, weights=counts)
    allowed = budget(config, length)
    sequence = sequence[unit]
    offsets = offsets_of(np.bincount(sequence, minlength=len(allowed)))
    number = np.arange(len(unit)) - offsets[sequence]  # of the unit in its sequence

    # Shuffle inside each sequence by one sort of 64-bit words: the sequence (16 bits), random bits
    # (32), and the unit's number (16), which breaks ties. `sequence` is the same before and after.
    words = (sequence.astype(np.uint64) << np.uint64(48)) | (bits >> np.uint64(32) << np.uint64(16))
    words |= number.astype(np.uint64)
    words.sort()
    shuffled = offsets[sequence] + (words & np.uint64(0xFFFF)).astype(np.int64)

    if config.unit == "token":
        return np.sort(unit[shuffled[number < allowed[sequence]]])
    chosen_units = shuffled[_greedy(size[shuffled], offsets, allowed.astype(np.int64))]
    pieces = Ragged.from_lengths(np.repeat(unit[chosen_units], size[chosen_units]), size[chosen_units])
    return np.sort(pieces.values + pieces.positions())


def _greedy(size: np.ndarray, offsets: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """Choose the units of each sequence greedily in order, skipping those that exceed its budget.

    size: [U], in order of choice; offsets: [S + 1], the units of each sequence; budget: [S].
    Returns [U] bool. Each step is vectorised over all sequences that are not finished.
    """
    is_chosen = np.zeros(len(size), bool)
    going = np.diff(offsets) > 0
    at, end, left = offsets[:-1][going], offsets[1:][going], budget[going]
    while len(at):
        fits = size[at] <= left
        is_chosen[at] = fits
        left, at = left - size[at] * fits, at + 1
        going = (left > 0) & (at < end)
        at, end, left = at[going], end[going], left[going]
    return is_chosen


def replaced(
    ids: np.ndarray, random: np.ndarray, fate: np.ndarray, config: SparseConfig, specials: Specials
) -> np.ndarray:
    """What the network sees in place of the chosen tokens `ids`, or the `random` ones. fate: in [0, 1). All [C]."""
    seen = np.where(fate < config.mask + config.random, random, ids)
    if config.mask:
        seen = np.where(fate < config.mask, specials.mask, seen)
    return seen.astype(ids.dtype)
