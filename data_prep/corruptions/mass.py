"""MASS (Song et al. 2019, arXiv:1905.02450, section 3.2): one fragment of a text is hidden, and predicted in order.

    x    a b c d e f g h
    x′   a b _ _ _ _ g h
    x″   c d e f at positions 2 to 5

Of a text of m tokens, round(rate · m) in a row are hidden (halves are rounded to even; at least one). The fragment
begins at the text's first token with probability `front`, ends at its last one with probability `back`, and lies
anywhere else, all places equally likely, as in the code published with the paper. What the encoder sees of each of its
tokens is [MASK] (80 %), a random token (10 %) or the token (10 %), as in BERT. Special tokens at the ends of a row are
not text. The objective decides what the decoder sees: the fragment's earlier tokens at their own positions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from data_prep.corruptions.base import Counts, Needs, ends_of_text
from data_prep.corruptions.masking import Sparse, SparseConfig, checked, hidden, replaced
from data_prep.rng import Draws
from data_prep.shards.rows import Rows, Specials, offsets_of, runs

WHERE, BEGIN, FATE, RANDOM = range(4)  # draws


class MassConfig(SparseConfig):
    """How much is hidden, and where."""

    kind: Literal["mass"]
    """One fragment of a text is hidden, as in MASS."""
    rate: float = Field(default=0.5, gt=0, le=1)
    """Share of a text's tokens that are hidden."""
    front: float = Field(default=0.2, ge=0, le=1)
    """Probability that they are its first ones."""
    back: float = Field(default=0.2, ge=0, le=1)
    """Probability that they are its last ones."""

    @property
    def needs(self) -> Needs:
        return Needs(specials=("mask",) if self.mask else (), single=True)

    @model_validator(mode="after")
    def _ends_are_shares(self) -> MassConfig:
        if self.front + self.back > 1 + 1e-9:
            raise ValueError(f"front and back must not exceed 1 together, and {self.front} + {self.back} does")
        return self

    def sizes(self, length: np.ndarray) -> np.ndarray:
        """[R] int64: numbers of tokens to hide in texts of `length` [R] tokens."""
        return np.minimum(np.maximum(np.rint(self.rate * length), 1), length.clip(0)).astype(np.int64)


class Mass(Sparse):
    """Hides one fragment of each row."""

    config: MassConfig

    def __init__(self, config: MassConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("MASS needs the special ids of a vocabulary")
        self.specials = specials

    def counts(self, n: int) -> Counts:
        """For a row of `n` tokens of which the first and the last are special."""
        return Counts(n, float(self.config.sizes(np.array([n - 2]))[0]))

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        tokens, config = checked(rows, self.config, draws), self.config
        front, back = ends_of_text(tokens, self.specials)
        length = tokens.lengths - front - back
        count = config.sizes(length)
        where, spare = draws.uniform(WHERE), length - count
        begin = np.where(where < config.front, 0, draws.below(spare + 1, BEGIN))
        begin = np.where((where >= config.front) & (where < config.front + config.back), spare, begin)
        index = runs(tokens.offsets[:-1] + front + begin, count)
        at = np.arange(len(index)) - np.repeat(offsets_of(count)[:-1] - front - begin, count), tokens.row_index()[index]
        random = self.specials.ordinary[draws.below(len(self.specials.ordinary), RANDOM, *at)]
        seen = tokens.values.copy()
        seen[index] = replaced(seen[index], random, draws.uniform(FATE, *at), config, self.specials)
        return hidden(rows, index, seen)


Config = MassConfig


def build(config: MassConfig, specials: Specials | None = None) -> Mass:
    return Mass(config, specials)
