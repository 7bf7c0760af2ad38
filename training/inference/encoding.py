"""Features of rows by a trained network, for probes, fine-tuning and retrieval.

open_encoder(folder).encode(rows)  ─►  Features: one vector per row, or one per position with a mask
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data_prep.corruptions.noise import scaled
from data_prep.shards.rows import Rows, num_rows, ragged, take
from data_prep.tokens.tokenizers import specials
from training.inference.opening import network_kind, open_model
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.frame_network import FrameNetwork, open_network
from training.models.text.folder import open_pretrained
from training.models.text.network import accepted
from training.objectives.text import padded_tokens, seen_tokens

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

    def encode(self, rows: Rows) -> Features: ...


@dataclass(frozen=True)
class ArrayEncoder:
    """The codes of an auto-encoder: [R, D], or of a grid [R, places, D]. Rows have `input` [R, *shape]."""

    model: Autoencoder
    device: torch.device

    def encode(self, rows: Rows) -> Features:
        values = scaled(np.asarray(rows["input"]))

        def codes(index: np.ndarray) -> Tensor:
            code = self.model.encode(torch.from_numpy(np.ascontiguousarray(values[index])).to(self.device))
            return code.flatten(2).transpose(1, 2) if code.ndim == 4 else code.flatten(1)

        return Features(np.concatenate(_batched(np.arange(len(values)), codes)))


@dataclass(frozen=True)
class TextEncoder:
    """The last hidden states of an encoder of `transformers`, [R, L, D]. Rows hold one sequence of token ids each."""

    model: Any
    pad: int
    device: torch.device

    def encode(self, rows: Rows) -> Features:
        if "sequence" in rows:
            raise ValueError("rows of several sequences have no features of their own; encode the sequences")
        lengths = seen_tokens(rows).lengths
        order = np.argsort(lengths, kind="stable")  # rows of like lengths together: less padding
        inputs = ["input_ids", *accepted(self.model, "attention_mask", "token_type_ids")]
        values = np.zeros((num_rows(rows), int(lengths.max()), self.model.config.hidden_size), np.float32)

        def states(index: np.ndarray) -> Tensor:
            batch = padded_tokens(take(rows, index), self.pad)
            tensors = {name: torch.from_numpy(batch[name]).to(self.device) for name in inputs}
            return self.model(**tensors).last_hidden_state

        starts = range(0, len(order), BATCH)
        for start, states_of_batch in zip(starts, _batched(order, states), strict=True):
            width = min(states_of_batch.shape[1], values.shape[1])
            values[order[start : start + BATCH], :width] = states_of_batch[:, :width]
        mask = np.arange(values.shape[1]) < lengths[:, None]
        return Features(values * mask[..., None], mask)


@dataclass(frozen=True)
class FrameEncoder:
    """The last hidden states of an encoder of frames, [R, L, D]. Rows have `input` Ragged [N, bands]."""

    network: FrameNetwork
    device: torch.device

    def encode(self, rows: Rows) -> Features:
        frames = ragged(rows, "seen" if "seen" in rows else "input")
        mask = np.arange(int(frames.lengths.max())) < frames.lengths[:, None]

        def states(index: np.ndarray) -> Tensor:
            values = torch.from_numpy(frames.take(index).pad(mask.shape[1], 0)).to(self.device)
            return self.network.encode(values.float(), torch.from_numpy(mask[index].astype(np.int64)).to(self.device))

        return Features(np.concatenate(_batched(np.arange(len(frames)), states)) * mask[..., None], mask)


def open_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """The encoder of a folder that training wrote. Raises UserError where it holds none."""
    place = torch.device(device)
    if network_kind(folder) == "array":
        return ArrayEncoder(open_model(folder, device), place)
    if network_kind(folder) == "frames":
        return FrameEncoder(open_network(folder).to(place).requires_grad_(False), place)
    attention = "eager" if place.type == "cpu" else "sdpa"
    model = open_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    return TextEncoder(model.to(place).requires_grad_(False), specials(folder).pad, place)


@torch.no_grad()
def _batched(index: np.ndarray, function: Callable[[np.ndarray], Tensor]) -> list[np.ndarray]:
    """`function` applied to row numbers, BATCH at a time; results on the CPU."""
    starts = range(0, len(index), BATCH)
    return [function(index[start : start + BATCH]).float().cpu().numpy() for start in starts]
