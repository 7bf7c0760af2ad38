"""Features of rows by a trained network, for probes, fine-tuning and retrieval.

open_encoder(folder).encode(rows)  ─►  Features: one vector per row, or one per position with a mask
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data_prep.shards.rows import Rows
from training.inference.opening import module_of

BATCH = 64  # rows at once


@dataclass(frozen=True)
class Features:
    """values: float32 [R, D], or [R, L, D] with `mask` bool [R, L]: False where a row has no such position."""

    values: np.ndarray
    mask: np.ndarray | None = None

    def mean(self) -> np.ndarray:
        """Means over the positions that a row has: float32 [R, D]."""
        if self.values.ndim == 2:
            return self.values
        if self.mask is None:
            return self.values.mean(1)
        weights = self.mask[..., None].astype(np.float32)
        return (self.values * weights).sum(1) / np.maximum(weights.sum(1), 1)


class Encoder(Protocol):
    """A trained network that gives features of rows."""

    @property
    def takes(self) -> tuple[int | None, ...] | None:
        """Shape of a row's `input` of numbers, with None for any length; None where rows hold token ids."""
        ...

    @property
    def longest(self) -> int | None:
        """Most positions of a row; None where there is no most."""
        ...

    def encode(self, rows: Rows) -> Features: ...


def open_encoder(folder: Path | str, device: str = "cpu") -> Encoder:
    """The encoder of a folder that training wrote. Raises UserError where it holds none."""
    folder = Path(folder)
    encoder: Encoder = module_of(folder).open_encoder(folder, torch.device(device))
    return encoder


@torch.no_grad()
def in_batches(index: np.ndarray, function: Callable[[np.ndarray], Tensor]) -> list[np.ndarray]:
    """`function` applied to row numbers, BATCH at a time; results float32 on the CPU."""
    starts = range(0, len(index), BATCH)
    return [function(index[start : start + BATCH]).float().cpu().numpy() for start in starts]
