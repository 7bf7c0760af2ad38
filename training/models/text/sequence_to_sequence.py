"""An encoder and a decoder, which predicts each token of a sequence from another sequence and from those before it.

Some of their feed-forward layers may be mixtures of experts (`training.models.experts`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.models.experts.config import RoutingConfig
from training.models.experts.mixture import Mixture
from training.models.made import made
from training.models.text.architectures import architecture_of
from training.models.text.network import TextNetwork, matrix_parameters


class SequenceToSequenceNetwork(TextNetwork):
    """Encoder, decoder and head of `transformers`; one forward gives every sum the loss is made of.

    `mixture` are its layers of experts, None without any. Their statistics are part of the forward's result.
    """

    def __init__(self, config: Any, routing: RoutingConfig) -> None:
        model: Any = sequence_to_sequence(config)
        mixture = Mixture(model, routing) if architecture_of(config.model_type).experts else None
        super().__init__(model)
        self.mixture = mixture

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        decoder_input_ids: Tensor,  # [B, T]
        target_positions: Tensor,  # [M], flat b·T + t
        target_ids: Tensor,  # [M]
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        arguments = {"decoder_input_ids": decoder_input_ids, **inputs}
        with self._routed(decoder_input_ids, target_positions, inputs):
            losses, right, _ = self.predicted(input_ids, target_positions, target_ids, **arguments)
        routing = {} if self.mixture is None else self.mixture.statistics()
        return {"lm": losses.sum(), "correct": right.sum(), "losses": losses.detach(), **routing}

    def _routed(
        self, given: Tensor, target_positions: Tensor, inputs: dict[str, Tensor]
    ) -> AbstractContextManager[None]:
        """Inside, tokens are routed to experts, if there are any. The decoder is given the places of its targets."""
        if self.mixture is None:
            return nullcontext()
        in_decoder = torch.zeros(given.shape, dtype=torch.bool, device=given.device)
        in_decoder.view(-1)[target_positions] = True
        return self.mixture.passing({"encoder": inputs["attention_mask"], "decoder": in_decoder}, self.training)

    # -- experts, which engines may divide among workers --------------------------------------------------------------

    def divide_experts(self, group: dist.ProcessGroup) -> list[nn.Parameter]:
        """Keep a worker's share of the experts; returns the parameters that other workers of the group do not have."""
        return self.mixture.divide(group) if self.mixture else []

    def all_experts(self) -> AbstractContextManager[None]:
        """Inside, this worker has all experts; all workers enter together."""
        return self.mixture.gathered() if self.mixture else nullcontext()

    def idle_parameters(self) -> int:
        """Parameters that do not process a given token."""
        return self.mixture.idle(self) if self.mixture else 0

    def expert_parameters(self) -> int:
        """Parameters of experts."""
        return self.mixture.num_parameters() if self.mixture else 0


def sequence_to_sequence(config: Any) -> nn.Module:
    """A randomly initialised encoder-decoder of `transformers` with a head on the vocabulary."""
    from transformers import AutoModelForSeq2SeqLM

    return made(AutoModelForSeq2SeqLM.from_config, config, "encoder-decoder", "choose t5 or bart")


def met_parameters(network: SequenceToSequenceNetwork) -> tuple[int, int]:
    """Multiply-add parameters per token, in the encoder and in the decoder; of experts, one's."""
    stacks = network.model.get_encoder(), network.model.get_decoder()
    in_encoder, in_decoder = (
        matrix_parameters(stack) - (network.mixture.idle(stack) if network.mixture else 0) for stack in stacks
    )
    return in_encoder, in_decoder


def sequence_to_sequence_flops(model: Any, matrices: tuple[int, int], seen: Tensor, targets: Tensor) -> float:
    """Multiply-adds, times 2, of a forward pass without its head on rows of `seen` [B] and `targets` [B] tokens.

    matrices: `met_parameters`. Keys and values of the decoder's attention to the encoder are made of the tokens that
    are seen.
    """
    encoder, decoder, config = model.get_encoder(), model.get_decoder(), model.config
    heads = int(config.num_attention_heads)
    inner = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    # BART's two stacks have one config, in which num_hidden_layers are those of the encoder.
    in_decoder = getattr(config, "decoder_layers", decoder.config.num_hidden_layers)
    crossing = in_decoder * 2 * int(config.hidden_size) * inner
    products = (matrices[0] + crossing) * seen.sum()
    products = products + (matrices[1] - crossing) * targets.sum()
    pairs = encoder.config.num_hidden_layers * seen.square()
    pairs = pairs + in_decoder * (targets.square() / 2 + seen * targets)
    return 2.0 * float(products + 2 * inner * torch.sum(pairs))
