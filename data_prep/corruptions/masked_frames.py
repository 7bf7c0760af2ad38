"""Masked frames (Mockingjay: Liu et al. 2020, arXiv:1910.12638, section 3.1): runs of frames are hidden, x is rebuilt.

A row of n frames has round(rate · n / run) runs, at least one, as far as they fit, placed uniformly among all
arrangements without overlap (the published code allows overlap). Their treatment is drawn once per row:

    zero      their frames become 0, the mean of every band
    other     each run becomes another run of the row, its start uniform
    keep      nothing is changed

`target_positions` are the frames of the runs; x″ is `input` there.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Piece, Targets, check_rows
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged

PLACE, HOW, OTHER = range(3)  # draws


class MaskedFramesConfig(CorruptionConfig):
    """Which frames are hidden, and how."""

    kind: Literal["masked-frames"]
    """Masked frames, as in Mockingjay."""
    rate: float = Field(default=0.15, gt=0, le=1)
    """Share of a row's frames that are hidden."""
    run: int = Field(default=7, ge=1)
    """Number of consecutive frames that are hidden together."""
    zero: float = Field(default=0.8, ge=0, le=1)
    """Share of the rows whose hidden runs become zero."""
    other: float = Field(default=0.1, ge=0, le=1)
    """Share of the rows whose hidden runs become other runs of the same row. In the rest, nothing changes."""

    targets: ClassVar[Targets] = "sparse"
    items = "values"
    writes = ("seen", "target_positions")

    @model_validator(mode="after")
    def _are_shares(self) -> MaskedFramesConfig:
        if self.zero + self.other > 1 + 1e-9:
            raise ValueError(f"zero and other together are at most 1, not {self.zero + self.other:g}")
        return self

    def runs(self, n: int) -> tuple[int, int]:
        """Number of runs in a row of n frames, and frames per run."""
        length = min(self.run, n)
        return max(1, min(round(self.rate * n / length), n // length)) if n else 0, length


class MaskedFrames(Corruption):
    """See the module's docstring."""

    config: MaskedFramesConfig

    def counts(self, n: int) -> Counts:
        num_runs, length = self.config.runs(n)
        return Counts(n, num_runs * length)

    def restore(self, rows: Rows) -> Rows:
        return {name: column for name, column in rows.items() if name not in self.writes}

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        clean, seen = ragged(rows, "input").row(row), ragged(rows, "seen").row(row)
        places = ragged(rows, "target_positions").row(row).astype(np.int64)
        return [Piece("x", clean, places), Piece("x′", seen, places), Piece("x″", clean[places], places)]

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """rows: `input` Ragged [N, bands]. Adds `seen` and `target_positions` Ragged uint16, ascending."""
        check_rows(rows, self.config, draws)
        clean = ragged(rows, "input")
        values, places = clean.values.copy(), []
        how = draws.uniform(HOW)
        for row, n in enumerate(clean.lengths.tolist()):
            num_runs, length = self.config.runs(n)
            free = n - num_runs * (length - 1)  # places, if each run took one
            bits = draws.bits(PLACE, np.arange(free), np.full(free, row))
            starts = np.sort(np.argsort(bits, kind="stable")[:num_runs]) + np.arange(num_runs) * (length - 1)
            chosen = (starts[:, None] + np.arange(length)).reshape(-1)
            places.append(chosen)
            if how[row] < self.config.zero:
                values[clean.offsets[row] + chosen] = 0
            elif how[row] < self.config.zero + self.config.other:
                others = draws.below(n - length + 1, OTHER, np.arange(num_runs), np.full(num_runs, row))
                instead = (others[:, None] + np.arange(length)).reshape(-1)
                values[clean.offsets[row] + chosen] = clean.row(row)[instead]
        return {**rows, "seen": Ragged(values, clean.offsets), "target_positions": Ragged.from_rows(places, np.uint16)}


Config = MaskedFramesConfig


def build(config: MaskedFramesConfig, specials: Specials | None = None) -> MaskedFrames:
    return MaskedFrames(config, specials)
