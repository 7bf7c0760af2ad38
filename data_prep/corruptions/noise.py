"""Noise for denoising auto-encoders (Vincent et al. 2010, section 3.3): x ──► what the network sees, `seen`.

`add_noise` is a pure function of each row and of the row's keyed draws, so results do not depend on how rows are
batched. The target is the clean example `input`. A row has D values over all of its axes.

    gaussian         every value + level · z; z = Φ⁻¹(u), Φ the standard normal distribution, u = (b + ½)/2⁵², where b
                     is the first 52 of the value's keyed bits; nothing is clipped
    masking          round(level · D) values, chosen uniformly, become 0 (halves are rounded to even)
    salt-and-pepper  the same number, chosen likewise, become `low` or `high` with equal probability

An exact number of values is chosen in each row, as in the paper, instead of each value independently. `seen` is float32
even if `input` is uint8 (images), with 0 … 255 scaled to 0 … 1, so that noise levels are comparable; Gaussian noise can
leave that range.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Piece, Targets, check_rows
from data_prep.rng import Draws
from data_prep.shards.rows import Rows, Specials

GAUSSIAN, CHOOSE, SALT = range(3)  # draws
CHUNK = 1 << 18  # values to process at a time: their 64-bit draws fit the CPU cache


class NoiseConfig(CorruptionConfig):
    """Kind and level of noise."""

    kind: Literal["gaussian", "masking", "salt-and-pepper"]
    """Kind of noise."""
    level: float = Field(default=0.0, ge=0)
    """gaussian: standard deviation; others: share of the values that change, at most 1."""
    low: float = 0.0
    """Value of pepper, usually the smallest input."""
    high: float = 1.0
    """Value of salt, usually the largest input."""

    targets: ClassVar[Targets] = "clean"
    items = "values"
    writes = ("seen",)

    @model_validator(mode="after")
    def _level_fits_kind(self) -> NoiseConfig:
        if self.kind != "gaussian" and self.level > 1:
            raise ValueError(f"level is a share of the values for {self.kind}: at most 1, not {self.level:g}")
        return self


def add_noise(rows: Rows, config: NoiseConfig, draws: Draws) -> Rows:
    """The rows with `seen` float32 [R, …] added, in the shape of `input`.

    rows: `input` [R, …], float32, or uint8 for images. draws: one sample per row. Other columns are passed through;
    nothing changes in place. Raises what `check_rows` raises.
    """
    check_rows(rows, config, draws)
    clean = np.asarray(rows["input"])
    seen = scaled(clean)
    if seen is clean:
        seen = clean.copy()
    flat: np.ndarray = seen.reshape(len(seen), math.prod(seen.shape[1:]))
    step = max(1, CHUNK // max(1, flat.shape[1]))
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        _spoil(flat[part], config, draws.take(np.arange(len(flat))[part]))
    return {**rows, "seen": seen}


class Noise(Corruption):
    """Noise on values; the clean example is the target."""

    config: NoiseConfig

    def counts(self, n: int) -> Counts:
        return Counts(n, n)

    def restore(self, rows: Rows) -> Rows:
        return {name: column for name, column in rows.items() if name != "seen"}

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        clean, seen = np.asarray(rows["input"])[row], np.asarray(rows["seen"])[row]
        places = np.flatnonzero(scaled(clean) != seen)
        return [Piece("x", clean, places), Piece("x′", seen, places)]

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        return add_noise(rows, self.config, draws)


Config = NoiseConfig


def build(config: NoiseConfig, specials: Specials | None = None) -> Noise:
    return Noise(config, specials)


def scaled(values: np.ndarray) -> np.ndarray:
    """float32: bytes divided by 255, other values unchanged."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    return values.astype(np.float32, copy=False)


def _spoil(values: np.ndarray, config: NoiseConfig, draws: Draws) -> None:
    """Add noise to `values` [R, D] in place."""
    size = values.shape[1]
    row, position = np.arange(len(values))[:, None], np.arange(size)
    if config.kind == "gaussian":
        values += (config.level * draws.normal(GAUSSIAN, position, row)).astype(np.float32)
        return
    count = int(np.rint(config.level * size))
    bits = draws.bits(CHOOSE, position, row)  # distinct within a row, so the smallest do not depend on the batch
    chosen = np.argpartition(bits, count, axis=1)[:, :count] if count < size else np.broadcast_to(position, bits.shape)
    if config.kind == "masking":
        values[row, chosen] = 0
    else:
        salt = draws.bits(SALT, chosen, row) >> np.uint64(63)
        values[row, chosen] = np.where(salt, np.float32(config.high), np.float32(config.low))
