"""A masked language model whose vectors are moved in one layer, and the tokens that it then reads in each place.

    tokens ─► layers 1 … l ─► + shift ─► layers l + 1 … ─► head on the vocabulary ─► the likeliest token of each place

Nothing is masked: without a shift it gives back most of what it is shown. The shift is added in all places; layer 0 is
the embeddings. That turns texts of one language into tokens of another (Liu et al. 2020, arXiv:2010.10041).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, ragged, take
from data_prep.tokens.tokenizers import specials
from training.inference.embedding import batches
from training.inference.networks.text import TextEncoder
from training.models.fine_tuning import layers_of
from training.models.text.architectures import attention_of
from training.models.text.folder import open_config, open_pretrained
from training.models.text.network import accepted
from training.objectives.text import padded_tokens

LOGITS = 1 << 24  # of a batch: 64 MiB


@dataclass(frozen=True)
class ShiftedMaskedLM:
    """A masked language model in evaluation mode. layers: those of its encoder, the lowest first."""

    model: Any
    layers: list[nn.Module]
    pad: int
    device: torch.device

    @staticmethod
    def open(folder: Path, device: str = "cpu") -> ShiftedMaskedLM:
        """UserError where a folder holds no masked language model that is a stack of layers."""
        config = open_config(folder)
        config._attn_implementation = attention_of(config.model_type)
        try:
            model = open_pretrained(folder, "AutoModelForMaskedLM", config=config, dtype=torch.float32)
        except ValueError as error:  # of a type that has no such class
            raise UserError(f"{folder}: {config.model_type!r} fills no gaps; name a masked language model.") from error
        layers = layers_of(model.base_model)
        if not layers:
            raise UserError(f"{folder}: {config.model_type!r} is no stack of layers with weights of their own.")
        where = torch.device(device)
        return ShiftedMaskedLM(model.to(where).requires_grad_(False), layers, specials(folder).pad, where)

    @property
    def encoder(self) -> TextEncoder:
        """Its layers without the head, 0 being the embeddings."""
        return TextEncoder(self.model.base_model, self.pad, self.device)

    @torch.no_grad()
    def read(self, rows: Rows, layer: int = 0, shift: np.ndarray | None = None) -> Ragged:
        """The likeliest token of each place of rows, uint32, once `shift` [D] is added to what a layer gives."""
        tokens = ragged(rows, "input")
        likeliest = np.zeros(len(tokens.values), np.uint32)
        places = Ragged(np.arange(len(likeliest)), tokens.offsets)
        names = ["input_ids", *accepted(self.model, "attention_mask", "token_type_ids")]
        with self._shifted(layer, shift):
            for index in self._batches(tokens.lengths):
                batch = padded_tokens(take(rows, index), self.pad, most=self.encoder.longest)
                logits = self.model(**{name: torch.from_numpy(batch[name]).to(self.device) for name in names}).logits
                is_token = batch["attention_mask"].astype(bool)
                likeliest[places.take(index).values] = logits.argmax(-1).cpu().numpy()[is_token]
        return Ragged(likeliest, tokens.offsets)

    def _batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Numbers of rows whose logits fit into memory."""
        for index in batches(lengths):
            most = max(1, LOGITS // (int(lengths[index].max()) * self.model.config.vocab_size))
            yield from (index[start : start + most] for start in range(0, len(index), most))

    @contextmanager
    def _shifted(self, layer: int, shift: np.ndarray | None) -> Iterator[None]:
        """While a layer gives its vectors plus `shift`."""
        if shift is None:
            yield
            return
        added = torch.from_numpy(np.asarray(shift, np.float32)).to(self.device)
        if layer == 0:
            hook = self.layers[0].register_forward_pre_hook(lambda _, given: (given[0] + added, *given[1:]))
        else:
            hook = self.layers[layer - 1].register_forward_hook(lambda _, given, output: _plus(output, added))
        try:
            yield
        finally:
            hook.remove()


def _plus(output: Any, added: Tensor) -> Any:
    """What a layer gives, be it vectors or a tuple that begins with them, plus a vector."""
    return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added
