"""ELMo (`training.models.text.elmo.network`), in a folder with its tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.shards.rows import Ragged, Rows, take
from data_prep.tokens.tokenizers import specials
from training.inference.encoding import Features, in_batches
from training.inference.networks import copy_others
from training.models.text.elmo.network import KIND, Elmo, ScalarMix, open_network, save_network
from training.models.text.elmo.spelling import Spelling
from training.objectives.elmo import arrays
from training.objectives.text import padded_tokens, seen_tokens

__all__ = ["ElmoEncoder", "describes", "open_encoder", "open_network"]


def describes(config: Mapping[str, Any]) -> bool:
    return config.get("kind") == KIND


def open_encoder(folder: Path, device: torch.device) -> ElmoEncoder:
    network = open_network(folder).to(device).requires_grad_(False)
    spelling = Spelling.of_tokenizer(folder, specials(folder), network.config.word_length)
    return ElmoEncoder(network, spelling, ScalarMix(network.config.layers + 1).to(device).requires_grad_(False), device)


def open_trainable(folder: Path) -> TrainableElmo:
    encoder = open_encoder(folder, torch.device("cpu"))
    return TrainableElmo(MixedElmo(encoder.network, encoder.spelling), folder)


@dataclass(frozen=True)
class TrainableElmo:
    """ELMo as tasks train it. Rows hold one text of token ids each."""

    network: MixedElmo
    folder: Path

    @property
    def width(self) -> int:
        return 2 * self.network.network.config.projection

    @property
    def layers(self) -> list[nn.Module]:
        """None: of a pretrained network, the shares of its layers are learned."""
        return []

    def inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        return padded_tokens(rows, 0, types=False)  # padding is cut off again

    def copied(self) -> TrainableElmo:
        return replace(self, network=copy.deepcopy(self.network))

    def from_random_weights(self) -> TrainableElmo:
        network = Elmo(self.network.network.config, self.network.network.vocabulary)
        network.softmax.requires_grad_(False)
        return replace(self, network=MixedElmo(network, self.network.spelling))

    def save(self, folder: Path) -> None:
        """The shares of the layers are no part of such a folder."""
        copy_others(self.folder, folder)
        save_network(folder, self.network.network)


class MixedElmo(nn.Module):
    """ELMo under a task: the shares of its layers are learned, and of a pretrained network nothing else.

    A network from random weights learns all of them: fixed, it would be no use.
    """

    def __init__(self, network: Elmo, spelling: Spelling) -> None:
        super().__init__()
        self.network, self.spelling, self.mix = network, spelling, ScalarMix(network.config.layers + 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        tokens = Ragged.from_lengths(
            input_ids[attention_mask.bool()].cpu().numpy(), attention_mask.sum(1).cpu().numpy()
        )
        layers = layers_of_pieces(self.network, self.spelling, tokens, input_ids.device)
        mixed = self.mix(layers)
        return SimpleNamespace(last_hidden_state=F.pad(mixed, (0, 0, 0, input_ids.shape[1] - mixed.shape[1])))


def layers_of_pieces(network: Elmo, spelling: Spelling, tokens: Ragged, device: torch.device) -> list[Tensor]:
    """Layers 0 … of all pieces of rows, each [R, L, D]: a piece has the vector of its word."""
    words = spelling.words(tokens)
    tensors = {name: torch.from_numpy(a).to(device) for name, a in arrays(words.ids, words.slots).items()}
    index = torch.from_numpy(words.of_piece.pad(int(tokens.lengths.max()), 0)).to(device)
    return [layer.gather(1, index[..., None].expand(-1, -1, layer.shape[2])) for layer in network.layers(**tensors)]


@dataclass(frozen=True)
class ElmoEncoder:
    """Mixed layers of words, [R, L, D]: each piece has the vector of its word. Rows hold one text of token ids each.

    mix: of equal shares, until somebody sets others.
    """

    network: Elmo
    spelling: Spelling
    mix: ScalarMix
    device: torch.device
    takes: ClassVar[None] = None
    longest: ClassVar[None] = None

    def layers(self, rows: Rows) -> list[Tensor]:
        """Layers 0 … of all pieces, each [R, L, D]."""
        if "sequence" in rows:
            raise ValueError("rows of several sequences have no features of their own; encode the sequences")
        return layers_of_pieces(self.network, self.spelling, seen_tokens(rows), self.device)

    def from_random_weights(self) -> ElmoEncoder:
        """The same shape, drawn by torch's generator."""
        network = Elmo(self.network.config, self.network.vocabulary).eval()
        return replace(self, network=network.to(self.device).requires_grad_(False))

    def encode(self, rows: Rows) -> Features:
        lengths = seen_tokens(rows).lengths
        mask = np.arange(int(lengths.max())) < lengths[:, None]

        def states(index: np.ndarray) -> Tensor:
            mixed = self.mix(self.layers(take(rows, index)))
            return F.pad(mixed, (0, 0, 0, mask.shape[1] - mixed.shape[1]))

        return Features(np.concatenate(in_batches(np.arange(len(lengths)), states)) * mask[..., None], mask)
