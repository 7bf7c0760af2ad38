"""ELMo (`training.models.text.elmo`), in a folder with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.shards.rows import Rows, take
from data_prep.tokens.tokenizers import specials
from training.inference.encoding import Features, in_batches
from training.models.text.elmo import KIND, Elmo, ScalarMix, open_network
from training.models.text.spelling import Spelling
from training.objectives.elmo import arrays
from training.objectives.text import seen_tokens

__all__ = ["ElmoEncoder", "describes", "open_encoder", "open_network"]


def describes(config: Mapping[str, Any]) -> bool:
    return config.get("kind") == KIND


def open_encoder(folder: Path, device: torch.device) -> ElmoEncoder:
    network = open_network(folder).to(device).requires_grad_(False)
    spelling = Spelling.of_tokenizer(folder, specials(folder), network.config.word_length)
    return ElmoEncoder(network, spelling, ScalarMix(network.config.layers + 1).to(device).requires_grad_(False), device)


@dataclass(frozen=True)
class ElmoEncoder:
    """Mixed layers of words, [R, L, D]: each piece has the vector of its word. Rows hold one text of token ids each.

    mix: of equal shares, until somebody sets others.
    """

    network: Elmo
    spelling: Spelling
    mix: ScalarMix
    device: torch.device

    def layers(self, rows: Rows) -> list[Tensor]:
        """Layers 0 … of all pieces, each [R, L, D]; gradients flow where the network's parameters ask for them."""
        if "sequence" in rows:
            raise ValueError("rows of several sequences have no features of their own; encode the sequences")
        tokens = seen_tokens(rows)
        words = self.spelling.words(tokens)
        tensors = {name: torch.from_numpy(a).to(self.device) for name, a in arrays(words.ids, words.slots).items()}
        index = torch.from_numpy(words.of_piece.pad(int(tokens.lengths.max()), 0)).to(self.device)
        layers = self.network.layers(**tensors)
        return [layer.gather(1, index[..., None].expand(-1, -1, layer.shape[2])) for layer in layers]

    def encode(self, rows: Rows) -> Features:
        lengths = seen_tokens(rows).lengths
        mask = np.arange(int(lengths.max())) < lengths[:, None]

        def states(index: np.ndarray) -> Tensor:
            mixed = self.mix(self.layers(take(rows, index)))
            return torch.nn.functional.pad(mixed, (0, 0, 0, mask.shape[1] - mixed.shape[1]))

        return Features(np.concatenate(in_batches(np.arange(len(lengths)), states)) * mask[..., None], mask)
