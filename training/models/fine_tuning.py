"""An encoder with one linear layer: vectors of rows or of their positions become scores (BERT, section 4).

    rows ─► encoder ─► [B, L, width] ─┬─► one vector a row (first, last or mean) ─► linear ─► labels, a number, a choice
                                      ├─► vectors at some positions ─────────────► linear ─► a label for each
                                      └─► all of them ───────────────────────────► linear ─► start and end of an answer

Rows are of any kind: token ids, frames of sound, patches (`TaskEncoder`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from data_prep.shards.rows import Rows
from training.models.text.network import accepted

MASK = "attention_mask"
POSITIONS = "target_positions"
Pooling = Literal["positions", "mean", "all"]


class TaskEncoder(Protocol):
    """An encoder as a task trains it."""

    @property
    def network(self) -> nn.Module:
        """Its forward of what `inputs` gives has `last_hidden_state` [B, L, width]."""
        ...

    @property
    def width(self) -> int:
        """Size of the vectors."""
        ...

    def inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        """Arrays [B, L, …] by the names that the network takes; `attention_mask` [B, L] is always among them."""
        ...

    def copied(self) -> TaskEncoder:
        """The same weights in another network."""
        ...

    def from_random_weights(self) -> TaskEncoder:
        """The same shape, drawn by torch's generator."""
        ...

    def save(self, folder: Path) -> None:
        """Write a folder that opens as the one that the encoder was opened from, with the weights that it has now."""
        ...


class FineTuningNetwork(nn.Module):
    """An encoder and a linear layer of `outputs` scores: at `target_positions`, on means of rows, or everywhere.

    frozen: the encoder learns nothing.
    """

    def __init__(
        self, encoder: TaskEncoder, outputs: int, pooling: Pooling, dropout: float, frozen: bool = False
    ) -> None:
        super().__init__()
        config: Any = getattr(encoder.network, "config", None)
        self.encoder = encoder.network
        self.pooling, self.takes_mask = pooling, bool(accepted(encoder.network, MASK))
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.width, outputs)
        nn.init.normal_(self.classifier.weight, std=float(getattr(config, "initializer_range", 0.02)))
        nn.init.zeros_(self.classifier.bias)

    def train(self, mode: bool = True) -> FineTuningNetwork:
        """A frozen encoder stays as it is when it is used: without dropout."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, target_positions: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Scores in fp32: [M, outputs] at M flat positions, [B, outputs] of means, [B, L, outputs] of all.

        attention_mask is given to encoders that take one, and says which positions a mean is of.
        """
        mask = inputs[MASK] if self.takes_mask else inputs.pop(MASK)
        hidden = self.encoder(**inputs).last_hidden_state
        if self.pooling == "mean":
            mask = mask.unsqueeze(-1).to(hidden.dtype)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        elif self.pooling == "positions":
            hidden = hidden.flatten(0, 1)[target_positions]
        return self.classifier(self.dropout(hidden)).float()
