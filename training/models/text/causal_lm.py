"""A decoder with its head on the vocabulary, which predicts each token from those before it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from training.models.made import made
from training.models.text.network import TextNetwork


class CausalLMNetwork(TextNetwork):
    """Decoder and head of `transformers`; one forward gives every sum the loss is made of."""

    def __init__(self, config: Any) -> None:
        super().__init__(causal_lm(config))

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat b·L + l: the token there is given, the next one is predicted
        target_ids: Tensor,  # [M]
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        losses, right, _ = self.predicted(input_ids, target_positions, target_ids, **inputs)
        return {"lm": losses.sum(), "correct": right.sum(), "losses": losses.detach()}


def causal_lm(config: Any) -> nn.Module:
    """A randomly initialised causal LM of `transformers`."""
    from transformers import AutoModelForCausalLM

    return made(AutoModelForCausalLM.from_config, config, "causal head", "choose a decoder such as gpt2 or llama")
