"""A generator that fills masked tokens, and a discriminator that tells which tokens it replaced (ELECTRA).

    seen ──► generator ──► logits at the slots ──► −log p of the true tokens          (MLM)
                               │ drawn, no gradient
    x with the drawn tokens ──► discriminator ──► replaced? at every position         (BCE)

The embeddings are shared: tables of tokens, positions and token types, and the norm after them, all at the
discriminator's embedding size; the generator projects them to its own width. A generator of equal size may share all
but its head. Shared parameters have the gradient of both losses, and both networks are one player (Clark et al. 2020,
section 3.2; google-research/electra, `modeling.BertModel`).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.models.made import made
from training.models.text.masked_lm import MaskedLMNetwork
from training.models.text.network import TextNetwork

HEAD = 64  # width of a generator's attention head
BELOW_ONE = 1 - 2.0**-24  # the largest such number in fp32


class Generator(MaskedLMNetwork):
    """A masked LM whose logits are kept, to draw from them."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, "none")

    def fuse_loss(self) -> None:
        """A fused loss leaves no logits."""


class ReplacedTokenNetwork(TextNetwork):
    """Both networks of `transformers`; `model` is the discriminator. One forward gives all sums of the loss."""

    def __init__(self, config: Any, generator_config: Any, temperature: float, one_encoder: bool = False) -> None:
        from transformers import AutoModelForPreTraining

        super().__init__(made(AutoModelForPreTraining.from_config, config, "discriminator", "choose electra"))
        self.generator, self.temperature = Generator(generator_config), temperature
        generator: Any = self.generator.model
        for name, module in self.encoder.named_children():
            if one_encoder or name == "embeddings":
                setattr(generator.base_model, name, module)
        generator.tie_weights()  # its projection on the vocabulary is the shared table

    def fuse_loss(self) -> None:
        """The discriminator has no projection on the vocabulary."""

    def forward(
        self,
        input_ids: Tensor,  # [B, L], what the generator sees
        target_positions: Tensor,  # [M] slots, flat b·L + l; some are equal
        target_ids: Tensor,  # [M]
        draw: Tensor,  # [M] in [0, 1), equal where slots are
        attention_mask: Tensor,  # [B, L]
        sequence: Tensor | None = None,
        position: Tensor | None = None,
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        inputs["attention_mask"] = attention_mask
        losses, right, output = self.generator.predicted(
            input_ids, target_positions, target_ids, sequence, position, **inputs
        )
        logits = self.generator.logits(output).squeeze(0)[: len(draw)]
        fakes = sampled(logits.detach().float() / self.temperature, draw)
        true_ids = put(input_ids, target_positions, target_ids)
        shown_ids = put(true_ids, target_positions, fakes)
        replaced = shown_ids != true_ids
        scores = self.model(input_ids=shown_ids, **self.arguments(sequence, position, inputs)).logits.float()
        errors = F.binary_cross_entropy_with_logits(scores, replaced.float(), reduction="none") * attention_mask
        hits = ((scores > 0) == replaced) & attention_mask.bool()
        return {
            "mlm": losses.sum(),
            "mlm_correct": right.sum(),
            "mlm_losses": losses.detach(),
            "rtd": errors.sum(),
            "rtd_losses": errors.detach(),  # [B, L]
            "rtd_correct": hits.sum(),
            "replaced": replaced.sum(),
            "replaced_correct": (hits & replaced).sum(),
            "shown_ids": shown_ids,
            "rtd_scores": scores.detach(),  # [B, L], above 0: replaced
        }


def generator_config(config: Any, width: float, layers: float) -> Any:
    """The generator's config for a discriminator's: shares of its hidden size and of its layers, heads of 64."""
    smaller = copy.deepcopy(config)
    smaller.hidden_size = round(config.hidden_size * width)
    smaller.num_hidden_layers = round(config.num_hidden_layers * layers)
    smaller.intermediate_size = 4 * smaller.hidden_size
    smaller.num_attention_heads = max(1, smaller.hidden_size // HEAD)
    return smaller


def sampled(logits: Tensor, draw: Tensor) -> Tensor:
    """Tokens [M] drawn from the softmax of `logits` [M, V], each by one number of `draw` [M] in [0, 1).

    The inverse of the cumulative distribution: the tokens that Gumbel-max would draw, with M numbers instead of M·V.
    """
    cumulative = torch.softmax(logits, -1).cumsum(-1)
    place = draw.clamp(max=BELOW_ONE)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, place, right=True)[:, 0]


def put(ids: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    """`ids` [B, L] with `values` [M] at the flat `positions` [M]; of several at one position, the largest."""
    placed = torch.full_like(ids, -1).flatten().scatter_reduce_(0, positions, values, "amax").view_as(ids)
    return torch.where(placed >= 0, placed, ids)
