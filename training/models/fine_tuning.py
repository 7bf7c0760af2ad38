"""An encoder with one linear layer: vectors of rows or of their positions become scores (BERT, section 4).

    rows ─► encoder ─► [B, L, width] ─┬─► one vector a row (first, last or mean) ─► linear ─► labels, a number, a choice
                                      │   └─► of pairs of rows [u, v, |u − v|, u · v] ─► linear ─► the same
                                      ├─► vectors at some positions ─────────────► linear ─► a label for each
                                      └─► all of them ───────────────────────────► linear ─► start and end of an answer

Rows are of any kind: token ids, frames of sound, patches (`TaskEncoder`). Texts of a pair stand in one row; what an
encoder has learned one by one, such as recordings, is compared by its vectors (Conneau et al. 2017, section 3.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from data_prep.shards.rows import Rows
from training.models.text.architectures import architecture_of
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

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the network, the lowest first; none where it is no stack of layers with weights of their own.

        What the network registers before its first layer lies below it, and what it registers later above the last.
        """
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

    frozen: the encoder learns nothing. paired: scores are of pairs of rows. layer_decay: factor by which the learning
    rate falls from a layer to the one below it (`rate_shares`).
    """

    def __init__(
        self,
        encoder: TaskEncoder,
        outputs: int,
        pooling: Pooling,
        dropout: float,
        frozen: bool = False,
        layer_decay: float = 1.0,
        paired: bool = False,
    ) -> None:
        super().__init__()
        config: Any = getattr(encoder.network, "config", None)
        self.encoder = encoder.network
        self.pooling, self.takes_mask = pooling, bool(accepted(encoder.network, MASK))
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.width * (4 if paired else 1), outputs)
        nn.init.normal_(self.classifier.weight, std=float(getattr(config, "initializer_range", 0.02)))
        nn.init.zeros_(self.classifier.bias)
        self.rate_shares = _rate_shares(encoder, layer_decay) if layer_decay != 1 else {}
        """By name, shares of the learning rate; of other parameters it is 1."""

    def train(self, mode: bool = True) -> FineTuningNetwork:
        """A frozen encoder stays as it is when it is used: without dropout."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, target_positions: Tensor | None = None, pairs: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Scores in fp32: [M, outputs] at M flat positions, [B, outputs] of means, [B, L, outputs] of all. pairs:
        [P, 2], numbers of two rows each whose vectors are compared, [P, outputs].

        attention_mask is given to encoders that take one, and says which positions a mean is of.
        """
        mask = inputs[MASK] if self.takes_mask else inputs.pop(MASK)
        hidden = self.encoder(**inputs).last_hidden_state
        if self.pooling == "mean":
            mask = mask.unsqueeze(-1).to(hidden.dtype)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        elif self.pooling == "positions":
            hidden = hidden.flatten(0, 1)[target_positions]
        if pairs is not None:
            u, v = (hidden[rows] for rows in pairs.unbind(-1))
            hidden = torch.cat([u, v, (u - v).abs(), u * v], -1)
        return self.classifier(self.dropout(hidden)).float()


def layers_of(model: Any) -> list[nn.Module]:
    """The layers of an encoder of `transformers`, the lowest first: its one list of as many modules as its config says.

    None of networks that run the same weights several times, or have two stacks.
    """
    number = getattr(model.config, "num_hidden_layers", None)
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == number]
    is_stack = len(lists) == 1 and not architecture_of(model.config.model_type).shared_layers
    return list(lists[0]) if is_stack else []


def _rate_shares(encoder: TaskEncoder, decay: float) -> dict[str, float]:
    """decay^(L + 1 − l) in layer l of L, decay^(L + 1) below the first, 1 above the last, as in BEiT's code (Bao et al.
    2022); in that of ELECTRA (Clark et al. 2020) layers have one power more. UserError where there are none."""
    layers = encoder.layers
    if not layers:
        raise UserError(
            f"layer_decay: {type(encoder.network).__name__} is no stack of layers with weights of their own; set it to "
            "1.0."
        )
    layer_of = {id(parameter): number for number, layer in enumerate(layers, 1) for parameter in layer.parameters()}
    number, shares, above = 0, {}, len(layers) + 1
    for name, parameter in encoder.network.named_parameters(prefix="encoder"):
        number = layer_of.get(id(parameter), number if number < len(layers) else above)
        shares[name] = decay ** (above - number)
    return shares
