"""Fine-tuning an encoder on labels: one label per row (classification) or one per word (tagging).

Rows carry `input` and, for classification, `label`; for tagging, `target_positions` (the first piece of each word,
which carries its label: BERT, section 5.3) and `target_ids` (the labels).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.shards.rows import Ragged, Rows
from training.models import transformers
from training.objective import Batch, Loss, Networks, Turn
from training.objectives import Base

PAD_TO = 8
Pooling = Literal["words", "cls", "mean"]


class FineTuningNetwork(nn.Module):
    """An encoder and one linear layer, on every word's first piece, on [CLS], or on the mean over a row's tokens."""

    def __init__(self, encoder: nn.Module, labels: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(int(config.hidden_size), labels)
        nn.init.normal_(self.classifier.weight, std=float(getattr(config, "initializer_range", 0.02)))
        nn.init.zeros_(self.classifier.bias)
        self.inputs = transformers.accepted(encoder, "attention_mask", "token_type_ids")

    def forward(self, input_ids: Tensor, target_positions: Tensor, **inputs: Tensor) -> Tensor:
        """Scores [M, labels] of the rows (classification) or of the words (tagging), in fp32."""
        hidden = self.encoder(input_ids=input_ids, **{k: inputs[k] for k in self.inputs}).last_hidden_state
        if self.pooling == "mean":
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        else:
            hidden = hidden.flatten(0, 1)[target_positions]
        return self.classifier(self.dropout(hidden)).float()


class FineTuning(Base):
    """Cross-entropy over the labelled positions."""

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Path,
        labels: list[str],
        pooling: Pooling,
        pad: int,
        dropout: float = 0.1,
    ) -> None:
        self.network = FineTuningNetwork(encoder, len(labels), pooling, dropout)
        self.tokenizer = tokenizer
        self.labels = labels
        self.per_word = pooling == "words"
        self.pad = pad

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        tokens = rows["input"]
        assert isinstance(tokens, Ragged)
        lengths = tokens.lengths
        width = -(-int(lengths.max()) // PAD_TO) * PAD_TO
        batch = {
            "input_ids": tokens.pad(width, self.pad).astype(np.int64),
            "attention_mask": (np.arange(width) < lengths[:, None]).astype(np.int64),
        }
        segment = rows.get("segment")
        batch["token_type_ids"] = (
            segment.pad(width, 0).astype(np.int64) if isinstance(segment, Ragged) else np.zeros_like(batch["input_ids"])
        )
        if self.per_word:
            positions, labels = rows["target_positions"], rows["target_ids"]
            assert isinstance(positions, Ragged) and isinstance(labels, Ragged)
            batch["target_positions"] = positions.row_index() * width + positions.values
            batch["labels"] = labels.values.astype(np.int64)
        else:
            batch["target_positions"] = np.arange(len(tokens)) * width
            batch["labels"] = np.asarray(rows["label"]).astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def turns(self, phase: str) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {"label": float(len(batch["labels"]))}

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        scores = nets["model"](**{k: v for k, v in batch.items() if k != "labels"})
        correct = (scores.argmax(-1) == batch["labels"]).sum()
        return Loss(
            {"label": F.cross_entropy(scores, batch["labels"], reduction="sum")},
            {"accuracy": (correct, float(len(batch["labels"])))},
        )

    def predict(self, rows: Rows) -> np.ndarray:
        """The best label of each row or word, [M]."""
        batch = self.collate(rows)
        del batch["labels"]
        device = next(self.network.parameters()).device
        self.network.eval()
        with torch.no_grad():
            scores = self.network(**{k: v.to(device) for k, v in batch.items()})
        return scores.argmax(-1).cpu().numpy()
