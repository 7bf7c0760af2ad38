"""Encoders of frames (`training.models.frame_network`)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.shards.rows import Rows, ragged
from training.inference.encoding import Features, in_batches
from training.inference.networks import copy_others
from training.models.described import FRAMES
from training.models.fine_tuning import layers_of
from training.models.frame_network import FrameNetwork, open_network, save_network
from training.models.text.architectures import longest

__all__ = ["FrameEncoder", "describes", "open_encoder", "open_network", "open_trainable"]


def describes(config: Mapping[str, Any]) -> bool:
    return config.get("kind") == FRAMES


def open_encoder(folder: Path, device: torch.device) -> FrameEncoder:
    return FrameEncoder(open_network(folder).to(device).requires_grad_(False), device)


def open_trainable(folder: Path) -> TrainableFrames:
    return TrainableFrames(FrameStates(open_network(folder)), folder)


class FrameStates(nn.Module):
    """The hidden states of a network of frames, as `last_hidden_state` [B, L, D]."""

    def __init__(self, network: FrameNetwork) -> None:
        super().__init__()
        self.network = network
        for head in (network.dense, network.norm, network.output):  # which rebuild frames
            head.requires_grad_(False)

    def forward(self, frames: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self.network.encode(frames, attention_mask))


@dataclass(frozen=True)
class TrainableFrames:
    """A network of frames as tasks train it. Rows have `input` Ragged [N, bands]."""

    network: FrameStates
    folder: Path

    @property
    def width(self) -> int:
        return int(self.network.network.config.hidden_size)

    @property
    def layers(self) -> list[nn.Module]:
        return layers_of(self.network.network.encoder)

    def inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        frames = ragged(rows, "input")
        width = int(frames.lengths.max())
        mask = (np.arange(width) < frames.lengths[:, None]).astype(np.int64)
        return {"frames": frames.pad(width, 0).astype(np.float32), "attention_mask": mask}

    def copied(self) -> TrainableFrames:
        return replace(self, network=copy.deepcopy(self.network))

    def from_random_weights(self) -> TrainableFrames:
        network = self.network.network
        return replace(self, network=FrameStates(FrameNetwork(network.config, network.bands)))

    def save(self, folder: Path) -> None:
        copy_others(self.folder, folder)
        save_network(folder, self.network.network)


@dataclass(frozen=True)
class FrameEncoder:
    """The last hidden states of an encoder of frames, [R, L, D]. Rows have `input` Ragged [N, bands]."""

    network: FrameNetwork
    device: torch.device

    @property
    def takes(self) -> tuple[int | None, ...]:
        return (None, self.network.bands)

    @property
    def longest(self) -> int | None:
        return longest(self.network.config)

    def encode(self, rows: Rows) -> Features:
        frames = ragged(rows, "seen" if "seen" in rows else "input")
        mask = np.arange(int(frames.lengths.max())) < frames.lengths[:, None]

        def states(index: np.ndarray) -> Tensor:
            values = torch.from_numpy(frames.take(index).pad(mask.shape[1], 0)).to(self.device)
            return self.network.encode(values.float(), torch.from_numpy(mask[index].astype(np.int64)).to(self.device))

        return Features(np.concatenate(in_batches(np.arange(len(frames)), states)) * mask[..., None], mask)
