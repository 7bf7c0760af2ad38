"""An encoder and a decoder, which predicts each token of a sequence from another sequence and from those before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from training.models.text.network import TextNetwork, matrix_parameters


class SequenceToSequenceNetwork(TextNetwork):
    """Encoder, decoder and head of `transformers`; one forward gives every sum the loss is made of."""

    def __init__(self, config: Any) -> None:
        super().__init__(sequence_to_sequence(config))

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        decoder_input_ids: Tensor,  # [B, T]
        target_positions: Tensor,  # [M], flat b·T + t
        target_ids: Tensor,  # [M]
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        arguments = {"decoder_input_ids": decoder_input_ids, **inputs}
        losses, right, _ = self.predicted(input_ids, target_positions, target_ids, **arguments)
        return {"lm": losses.sum(), "correct": right.sum(), "losses": losses.detach()}


def sequence_to_sequence(config: Any) -> nn.Module:
    """A randomly initialised encoder-decoder of `transformers` with a head on the vocabulary."""
    from transformers import AutoModelForSeq2SeqLM

    try:
        return AutoModelForSeq2SeqLM.from_config(config)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UserError(
            f"network.architecture: transformers has no encoder-decoder for {config.model_type!r}; choose t5 or bart."
        ) from error


def sequence_to_sequence_flops(model: Any, seen: Tensor, targets: Tensor) -> float:
    """Multiply-adds, times 2, of a forward pass without its head on rows of `seen` [B] and `targets` [B] tokens.

    Keys and values of the decoder's attention to the encoder are made of the tokens that are seen.
    """
    encoder, decoder, config = model.get_encoder(), model.get_decoder(), model.config
    heads = int(config.num_attention_heads)
    inner = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    # BART's two stacks have one config, in which num_hidden_layers are those of the encoder.
    in_decoder = getattr(config, "decoder_layers", decoder.config.num_hidden_layers)
    crossing = in_decoder * 2 * int(config.hidden_size) * inner
    products = (matrix_parameters(encoder) + crossing) * seen.sum()
    products = products + (matrix_parameters(decoder) - crossing) * targets.sum()
    pairs = encoder.config.num_hidden_layers * seen.square()
    pairs = pairs + in_decoder * (targets.square() / 2 + seen * targets)
    return 2.0 * float(products + 2 * inner * torch.sum(pairs))
