"""Word vectors (`training.models.text.word_vectors.network`), in a folder with their tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from data_prep.shards.rows import Rows
from training.inference.encoding import Features
from training.models.text.word_vectors.network import KIND, WordVectors, open_network
from training.objectives.text import seen_tokens

__all__ = ["WordEncoder", "describes", "open_encoder", "open_network"]


def describes(config: Mapping[str, Any]) -> bool:
    return config.get("kind") == KIND


def open_encoder(folder: Path, device: torch.device) -> WordEncoder:
    return WordEncoder(open_network(folder).to(device).requires_grad_(False))


@dataclass(frozen=True)
class WordEncoder:
    """The input vector of each word, [R, L, D], whatever stands around it. Rows hold token ids."""

    network: WordVectors
    takes: ClassVar[None] = None
    longest: ClassVar[None] = None

    def from_random_weights(self) -> WordEncoder:
        """The same shape, drawn by torch's generator."""
        return WordEncoder(WordVectors(self.network.config, self.network.vocabulary).requires_grad_(False))

    def encode(self, rows: Rows) -> Features:
        tokens = seen_tokens(rows)
        mask = np.arange(int(tokens.lengths.max())) < tokens.lengths[:, None]
        vectors = self.network.input.weight.detach().cpu().numpy()
        return Features(vectors[tokens.pad(mask.shape[1], 0)] * mask[..., None], mask)
