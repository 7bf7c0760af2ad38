"""The distributions of a codec as whole numbers, and symbols coded by them: no rounding between symbols and bytes.

    codec.json    for every channel of the latents `lowest`, and `counts`: how often of TOTAL the values lowest,
                  lowest + 1, … are met, and last, anything else (escape)

A value outside its table is written as the escape, and in 16 plain bits after the channel. Tables are made once, when
a network is exported; everybody who codes with it reads the same numbers.

The range coder is `constriction`'s. It takes probabilities as floats and makes them integers of 24 bits, n symbols a
table:  start_i = i + ⌊(2²⁴ − n) · Σ_{j<i} p_j⌋.  With p = counts / 2¹⁶ every one of these sums and products is a
multiple of 2⁻¹⁶ below 2²⁴: exact in a double, in any order, on any machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import UserError
from training.compression import LARGEST, LogisticMixtures

FILE = "codec.json"
FORMAT = 1
TOTAL = 1 << 16
WIDEST = 1 << 11  # farthest value of a table from 0
TAIL = 2.0**-17  # probability left out of a table on either side
PLAIN = 1 << 16  # values written without a table


@dataclass(frozen=True)
class Table:
    """One channel's: counts add up to TOTAL, each at least 1, the last one the escape's."""

    lowest: int
    counts: tuple[int, ...]

    @property
    def model(self) -> Any:
        """What constriction codes with."""
        return _model(self.counts)


@dataclass(frozen=True)
class Tables:
    """Of every channel."""

    channels: tuple[Table, ...]

    @classmethod
    def of(cls, prior: LogisticMixtures) -> Tables:
        """Tabulate what a prior has learned, in double precision."""
        import torch

        values = torch.arange(-WIDEST, WIDEST + 1, dtype=torch.float64)
        exact = LogisticMixtures(*prior.weights.shape).double()
        exact.load_state_dict(prior.state_dict())
        with torch.no_grad():
            bits = exact(values.expand(1, len(prior.weights), len(values)).cpu())[0]
        return cls(tuple(_table(of.numpy()) for of in torch.exp2(-bits)))

    def save(self, folder: Path) -> None:
        """Write FILE."""
        channels = [{"lowest": table.lowest, "counts": table.counts} for table in self.channels]
        (folder / FILE).write_text(json.dumps({"format": FORMAT, "total": TOTAL, "channels": channels}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Tables:
        """UserError where there are none, or none that can be used."""
        path = folder / FILE
        try:
            found = json.loads(path.read_bytes())
            if (found["format"], found["total"]) != (FORMAT, TOTAL):
                raise ValueError(f"format {found['format']}, total {found['total']}")
            tables = tuple(Table(one["lowest"], tuple(one["counts"])) for one in found["channels"])
            for table in tables:
                whole = all(type(number) is int for number in (table.lowest, *table.counts))
                if not whole or len(table.counts) < 2 or min(table.counts) < 1 or sum(table.counts) != TOTAL:
                    raise ValueError(f"the counts of a channel are not whole numbers that add up to {TOTAL}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the tables of a codec: {error}; train one with Sesame.") from None
        return cls(tables)

    def encode(self, latents: np.ndarray) -> bytes:
        """Bytes of whole numbers [C, h, w], each at most LARGEST either way."""
        encoder = _library().queue.RangeEncoder()
        for table, channel in zip(self.channels, latents.astype(np.int32, casting="same_kind"), strict=True):
            values = channel.ravel()
            escape = len(table.counts) - 1
            symbols = values - np.int32(table.lowest)
            outside = (symbols < 0) | (symbols >= escape)
            symbols[outside] = escape
            encoder.encode(symbols, table.model)
            if outside.any():
                encoder.encode(values[outside] + np.int32(LARGEST), _library().model.Uniform(PLAIN))
        return encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, raw: bytes, height: int, width: int) -> np.ndarray:
        """The whole numbers [C, height, width] int32 of `encode`. ValueError where the bytes are not its."""
        if len(raw) % 4:
            raise ValueError("no whole number of words")
        plain = _library().model.Uniform(PLAIN)
        decoder = _library().queue.RangeDecoder(np.frombuffer(raw, "<u4").astype(np.uint32))
        found = np.empty((len(self.channels), height * width), np.int32)
        try:
            for table, values in zip(self.channels, found, strict=True):
                symbols = decoder.decode(table.model, len(values))
                values[:] = symbols + np.int32(table.lowest)
                outside = symbols == len(table.counts) - 1
                if outside.any():
                    values[outside] = decoder.decode(plain, int(outside.sum())) - np.int32(LARGEST)
        except AssertionError as error:  # constriction's word for bytes that no encoder made
            raise ValueError(str(error)) from None
        if not decoder.maybe_exhausted():
            raise ValueError("something follows the last symbol")
        return found.reshape(-1, height, width)


@lru_cache(maxsize=4096)
def _model(counts: tuple[int, ...]) -> Any:
    return _library().model.Categorical(np.array(counts, np.float64) / TOTAL, perfect=False)


def _library() -> Any:
    import constriction  # a single binary module, whose parts cannot be imported

    return constriction.stream  # type: ignore[attr-defined]


def _table(probabilities: np.ndarray) -> Table:
    """Of the probabilities [2 · WIDEST + 1] of the values from −WIDEST on."""
    below, above = np.cumsum(probabilities), np.cumsum(probabilities[::-1])[::-1]
    inside = np.flatnonzero((below > TAIL) & (above > TAIL))
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (WIDEST, WIDEST)
    kept = probabilities[first : last + 1]
    return Table(first - WIDEST, _shared_out(np.append(kept, max(0.0, 1 - kept.sum()))))


def _shared_out(probabilities: np.ndarray) -> tuple[int, ...]:
    """TOTAL in proportion, at least 1 each, what is left over to the largest remainders."""
    shares = probabilities / probabilities.sum() * (TOTAL - len(probabilities))
    counts = 1 + np.floor(shares).astype(np.int64)
    left = TOTAL - int(counts.sum())
    counts[np.argsort(counts - 1 - shares, kind="stable")[:left]] += 1
    return tuple(counts.tolist())
