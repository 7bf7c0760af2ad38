"""Masking by slots drawn with replacement, as ELECTRA masks for its generator (Clark et al. 2020).

    slots    max(1, min(max_predictions, round(rate · length))) of them in each sequence, halves rounded to even; length
             counts [CLS] and [SEP], but not padding
    drawn    each slot takes one of the tokens that are neither special nor padding, uniformly and *with replacement*
    fate     the token of a slot becomes [MASK] with probability `mask`, or else stays in sight; no token is random

This is what the code published with the paper does (google-research/electra, `pretrain_helpers.mask`), where
max_predictions is int((rate + 0.005) · length of rows). Some tokens are drawn twice: about 14.0 % are predicted, not
15 %, and a token that two slots drew is predicted, and counts, twice.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from data_prep.corruptions.base import CorruptionConfig, Counts, Needs, Targets
from data_prep.corruptions.masking import Sparse, checked, hidden, sequence_starts
from data_prep.rng import Draws
from data_prep.shards.rows import Rows, Specials, offsets_of

SLOT, FATE = range(2)  # draws


class SlotsConfig(CorruptionConfig):
    """How many slots there are, and how many of them are hidden."""

    kind: Literal["masked-slots"]
    """Tokens are drawn with replacement, and predicted in place; most of them are hidden."""
    rate: float = Field(default=0.15, gt=0, le=1)
    """Number of slots, as a share of a sequence's tokens."""
    max_predictions: int | None = Field(default=None, ge=1)
    """Maximum slots of one sequence; null: as many as the rate asks for."""
    mask: float = Field(default=0.85, ge=0, le=1)
    """Share of the slots whose token becomes [MASK]; the others stay in sight."""

    targets: ClassVar[Targets] = "sparse"
    items = "ids"
    writes = ("seen", "target_positions", "target_ids")

    @property
    def needs(self) -> Needs:
        return Needs(specials=("mask",) if self.mask else ())


class Slots(Sparse):
    """See the module's docstring."""

    config: SlotsConfig
    reads = ("input", "sequence")

    def __init__(self, config: SlotsConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("masking needs the special ids of a vocabulary")
        self.specials = specials

    def counts(self, n: int) -> Counts:
        """For a sequence of `n` tokens, including specials."""
        return Counts(n, float(self._slots(np.array([n]))[0]))

    def _slots(self, lengths: np.ndarray) -> np.ndarray:
        """Number of slots in sequences of these lengths."""
        asked, most = np.maximum(1, np.rint(self.config.rate * lengths)), self.config.max_predictions
        return (asked if most is None else np.minimum(most, asked)).astype(np.int64)

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """See `Corruption`; `input` is replaced by what `writes` says, positions uint16, ascending, some of them equal.

        Each run of equal values of `sequence` in a row is a separate sequence with its own slots.
        """
        tokens, opens = checked(rows, self.config, draws), sequence_starts(rows)
        pad = self.specials.get("pad")
        counted = np.ones(len(opens), bool) if pad is None else tokens.values != pad
        candidates = np.flatnonzero(~self.specials.is_special[tokens.values])
        sequence = np.cumsum(opens) - 1  # of each token
        num_sequences = int(opens.sum())
        num_candidates = np.bincount(sequence[candidates], minlength=num_sequences)
        num_slots = self._slots(np.bincount(sequence, weights=counted, minlength=num_sequences))
        num_slots[num_candidates == 0] = 0

        of_sequence = np.repeat(np.arange(num_sequences), num_slots)  # of each slot
        of_row = tokens.row_index()[opens][of_sequence]
        number = np.arange(len(of_row)) - np.searchsorted(of_row, of_row)  # of a slot in its row
        choice = draws.below(num_candidates[of_sequence], SLOT, number, of_row)
        index = candidates[offsets_of(num_candidates)[of_sequence] + choice]
        is_hidden = draws.uniform(FATE, number, of_row) < self.config.mask

        seen = tokens.values.copy()
        if self.config.mask:
            seen[index[is_hidden]] = self.specials.mask
        return hidden(rows, np.sort(index), seen)


Config = SlotsConfig


def build(config: SlotsConfig, specials: Specials | None = None) -> Slots:
    return Slots(config, specials)
