"""Encoders of frames (`training.models.frame_network`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.shards.rows import Rows, ragged
from training.inference.encoding import Features, in_batches
from training.models.frame_network import KIND, FrameNetwork, open_network

__all__ = ["FrameEncoder", "describes", "open_encoder", "open_network"]


def describes(config: Mapping[str, Any]) -> bool:
    return config.get("kind") == KIND


def open_encoder(folder: Path, device: torch.device) -> FrameEncoder:
    return FrameEncoder(open_network(folder).to(device).requires_grad_(False), device)


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

        return Features(np.concatenate(in_batches(np.arange(len(frames)), states)) * mask[..., None], mask)
