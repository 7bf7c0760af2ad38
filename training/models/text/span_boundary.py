"""An encoder with a masked-LM head and one that predicts a hidden span's tokens from the two next to it.

    h = [x of the token before the span; x of the one after it; an embedding of the place in the span]
    linear ─► GELU ─► norm ─► linear ─► GELU ─► norm ─► the input embeddings, with a bias of its own

SpanBERT (Joshi et al. 2020, section 3.2; `MLPWithLayerNorm` of its code).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.cpu_kernels import LossHead, spare_rows
from training.models.text.masked_lm import MaskedLMNetwork


class SpanBoundaryHead(nn.Module):
    """Logits [N, V] of tokens from what an encoder makes of both boundaries of their spans [N, H] and their places [N].

    embeddings: the input embeddings [V, E], shared with the projection.
    """

    def __init__(self, config: Any, embeddings: nn.Embedding, places: int, place_size: int) -> None:
        super().__init__()
        hidden, (vocabulary, size) = int(config.hidden_size), embeddings.weight.shape
        self.places = nn.Embedding(places, place_size)
        self.layers = nn.Sequential(
            nn.Linear(2 * hidden + place_size, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden, eps=1e-12),
            nn.Linear(hidden, size),
            nn.GELU(),
            nn.LayerNorm(size, eps=1e-12),
        )
        self.projection = nn.Linear(size, vocabulary)
        std = float(getattr(config, "initializer_range", 0.02))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        self.projection.weight = embeddings.weight

    def forward(self, before: Tensor, behind: Tensor, place: Tensor) -> Tensor:
        return self.projection(self.layers(torch.cat([before, behind, self.places(place).to(before.dtype)], -1)))


class KeepBoundaries:
    """Forward hook: keeps the last hidden states [N, H] at two lists of flat positions b·L + l."""

    def __init__(self, encoder: nn.Module) -> None:
        self.wanted: tuple[Tensor, Tensor] | None = None
        self.states: tuple[Tensor, Tensor] | None = None
        encoder.register_forward_hook(self, prepend=True)  # before positions without a target are left out

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.wanted is not None:
            hidden = output.last_hidden_state.flatten(0, 1)
            self.states = hidden[self.wanted[0]], hidden[self.wanted[1]]


class SpanBoundaryNetwork(MaskedLMNetwork):
    """A masked LM of `transformers` and the head above; one forward gives every sum the loss is made of."""

    def __init__(self, config: Any, places: int, place_size: int) -> None:
        super().__init__(config, "none")
        embeddings = self.model.get_input_embeddings()  # type: ignore[operator]
        self.boundary = SpanBoundaryHead(self.model.config, embeddings, places, place_size)
        self.keep_boundaries = KeepBoundaries(self.encoder)
        self.boundary_loss: LossHead | None = None

    def fuse_loss(self) -> None:
        super().fuse_loss()
        if self.head:
            self.boundary_loss = LossHead(self.boundary.projection)

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat b·L + l
        target_ids: Tensor,  # [M]
        span_before: Tensor | None = None,  # [N], flat b·L + l: the token before a target's span
        span_behind: Tensor | None = None,  # [N], … the token after it
        span_place: Tensor | None = None,  # [N], the target's place in the span, from 0
        span_ids: Tensor | None = None,  # [N], the ids to predict there
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        if span_before is None or span_behind is None or span_place is None or span_ids is None:
            return super().forward(input_ids, target_positions, target_ids, **inputs)
        targets = len(span_ids)
        spare = spare_rows(targets, input_ids.device)
        before, behind, place, ids = (F.pad(c, (0, spare)) for c in (span_before, span_behind, span_place, span_ids))
        self.keep_boundaries.wanted = before, behind
        sums = super().forward(input_ids, target_positions, target_ids, **inputs)
        states, self.keep_boundaries.wanted, self.keep_boundaries.states = self.keep_boundaries.states, None, None
        if states is None:
            raise RuntimeError("the encoder ran without its hooks")
        losses, right = self._predicted(*states, place, ids)
        losses, right = losses[:targets], right[:targets]
        return sums | {"sbo": losses.sum(), "sbo_correct": right.sum(), "sbo_losses": losses.detach()}

    def _predicted(self, before: Tensor, behind: Tensor, place: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """−log p [N] of `ids` in fp32, and whether each is the likeliest."""
        if self.boundary_loss:
            with self.boundary_loss.predicting(ids):
                answer = self.boundary(before, behind, place)
            return answer[:, 0], answer[:, 1].detach()
        logits = self.boundary(before, behind, place).float()
        return F.cross_entropy(logits, ids, reduction="none"), logits.argmax(-1) == ids
