"""No corruption: the network sees x itself, and x is its target."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Piece, Targets
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials


class NoneConfig(CorruptionConfig):
    """No settings: nothing is changed."""

    kind: Literal["none"]
    """No corruption."""

    targets: ClassVar[Targets] = "clean"


class Nothing(Corruption):
    """The identity."""

    def counts(self, n: int) -> Counts:
        return Counts(n, n)

    def restore(self, rows: Rows) -> Rows:
        return rows

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        column = rows["input"]
        values = column.row(row) if isinstance(column, Ragged) else column[row]
        return [Piece("x", values, np.empty(0, np.int64))]

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        return rows


Config = NoneConfig


def build(config: NoneConfig, specials: Specials | None = None) -> Nothing:
    return Nothing(config, specials)
