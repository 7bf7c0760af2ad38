"""What every layer of an encoder gives: means of rows, or vectors at some of their positions.

open_layers(folder)  ─►  rows ─► batches of like lengths ─► [B, L, D] of each layer ─┬─ means ─► [R, D] of each layer
                                                                                    └─ at ────► [M, D] of each layer

Layer 0 is what the first layer is given: embeddings with their positions. The last one is what the network gives in the
end. An encoder that does not tell its layers has the last one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, take
from training.distributed import seed_torch
from training.inference.embedding import batches
from training.inference.encoding import Encoder, open_encoder
from training.objectives.text import flat_positions, seen_tokens


class LayeredEncoder(Protocol):
    """An encoder that tells what each of its layers gives."""

    @property
    def takes(self) -> tuple[int | None, ...] | None:
        """See `Encoder`."""
        ...

    @property
    def longest(self) -> int | None:
        """See `Encoder`."""
        ...

    def layers(self, rows: Rows) -> list[Tensor]:
        """Layers 0 … of one batch of rows, each [B, L, D]; L may be more than the longest row has."""
        ...


@dataclass(frozen=True)
class LastLayer:
    """The one layer of an encoder that does not tell the others."""

    encoder: Encoder

    @property
    def takes(self) -> tuple[int | None, ...] | None:
        return self.encoder.takes

    @property
    def longest(self) -> int | None:
        return self.encoder.longest

    def layers(self, rows: Rows) -> list[Tensor]:
        return [torch.from_numpy(self.encoder.encode(rows).values)]


def open_layers(folder: Path, device: str = "cpu", random: int | None = None) -> LayeredEncoder:
    """The encoder of a folder; with `random`, one of its shape with weights of that seed.

    UserError where the folder holds none, or where networks of its kind have no random weights.
    """
    encoder: Any = open_encoder(folder, device)
    if random is not None:
        if not hasattr(encoder, "from_random_weights"):
            raise UserError(f"{folder}: its kind of network is not drawn at random; leave scratch out of models.")
        with torch.random.fork_rng(devices=[]):
            seed_torch(random)
            encoder = encoder.from_random_weights()
    return encoder if hasattr(encoder, "layers") else LastLayer(encoder)


def means(encoder: LayeredEncoder, rows: Rows, counted: Ragged | None = None) -> list[np.ndarray]:
    """By layer, the mean vector of each row over its positions, float32 [R, D].

    counted: bool, the positions that are in the mean; None: all. A row without one has zeros.
    """
    tokens = seen_tokens(rows)
    is_counted = Ragged(np.ones(len(tokens.values), bool), tokens.offsets) if counted is None else counted

    def mean(states: Tensor, index: np.ndarray) -> Tensor:
        weights = torch.from_numpy(is_counted.take(index).pad(states.shape[1], False)).to(states)[..., None]
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)

    by_layer: list[np.ndarray] = []
    for index, vectors in _by_batch(encoder, rows, mean):
        if not by_layer:
            by_layer = [np.zeros((len(tokens), layer.shape[1]), np.float32) for layer in vectors]
        for layer, of_batch in zip(by_layer, vectors, strict=True):
            layer[index] = of_batch
    return by_layer


def at(encoder: LayeredEncoder, rows: Rows, positions: Ragged) -> list[np.ndarray]:
    """By layer, the vectors at some positions of each row, row after row, float32 [M, D]."""

    def chosen(states: Tensor, index: np.ndarray) -> Tensor:
        places = flat_positions(positions.take(index), states.shape[1])
        return states.flatten(0, 1)[torch.from_numpy(places).to(states.device)]

    numbers = Ragged(np.arange(len(positions.values)), positions.offsets)
    by_layer: list[np.ndarray] = []
    for index, vectors in _by_batch(encoder, rows, chosen):
        if not by_layer:
            by_layer = [np.zeros((len(numbers.values), layer.shape[1]), np.float32) for layer in vectors]
        for layer, of_batch in zip(by_layer, vectors, strict=True):
            layer[numbers.take(index).values] = of_batch
    return by_layer


@torch.no_grad()
def _by_batch(
    encoder: LayeredEncoder, rows: Rows, reduced: Callable[[Tensor, np.ndarray], Tensor]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Numbers of rows, and what is kept of each layer for them, float32 on the CPU."""
    for index in batches(seen_tokens(rows).lengths):
        layers = encoder.layers(take(rows, index))
        yield index, [reduced(states.float(), index).cpu().numpy() for states in layers]
