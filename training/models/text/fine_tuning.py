"""An encoder with one linear layer that gives labels."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from training.models.text.network import accepted

Pooling = Literal["words", "cls", "mean", "last"]


class FineTuningNetwork(nn.Module):
    """A network and one linear layer, on every word's first piece, on a row's first or last token, or on its mean.

    A single pooled token is at `target_positions`: an encoder's first, [CLS]; a decoder's last, which has seen
    all (GPT: Radford et al. 2018, section 3.2).
    """

    def __init__(self, encoder: nn.Module, labels: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(int(config.hidden_size), labels)
        nn.init.normal_(self.classifier.weight, std=float(getattr(config, "initializer_range", 0.02)))
        nn.init.zeros_(self.classifier.bias)
        self.inputs = accepted(encoder, "attention_mask", "token_type_ids")

    def forward(self, input_ids: Tensor, target_positions: Tensor, **inputs: Tensor) -> Tensor:
        """Scores [M, labels] of the rows (classification) or of the words (tagging), in fp32."""
        hidden = self.encoder(input_ids=input_ids, **{k: inputs[k] for k in self.inputs}).last_hidden_state
        if self.pooling == "mean":
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        else:
            hidden = hidden.flatten(0, 1)[target_positions]
        return self.classifier(self.dropout(hidden)).float()
