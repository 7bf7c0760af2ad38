"""Fine-tuning an encoder on labels: one label per row (classification) or one per word (tagging).

Rows carry `input` and, for classification, `label`; for tagging, `target_positions` (the first piece of each word,
which carries its label: BERT, section 5.3) and `target_ids` (the labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.shards.rows import Rows, ragged
from training.lazy import F, torch
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import flat_positions, padded_tokens

if TYPE_CHECKING:
    from torch import nn

    from training.models.text.fine_tuning import Pooling


class FineTuning(BaseObjective):
    """Cross-entropy over the labelled positions."""

    unit = "tokens"
    shown: Sequence[str] = ("label", "accuracy")

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Path,
        labels: list[str],
        pooling: Pooling,
        pad: int,
        dropout: float = 0.1,
    ) -> None:
        from training.models.text.fine_tuning import FineTuningNetwork

        self.network = FineTuningNetwork(encoder, len(labels), pooling, dropout)
        self.tokenizer = tokenizer
        self.labels = labels
        self.per_word, self.pools_last = pooling == "words", pooling == "last"
        self.pad = pad

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        batch = padded_tokens(rows, self.pad, types="token_type_ids" in self.network.inputs)
        num_rows, width = batch["input_ids"].shape
        if self.per_word:
            batch["target_positions"] = flat_positions(ragged(rows, "target_positions"), width)
            batch["labels"] = ragged(rows, "target_ids").values.astype(np.int64)
        else:
            last = ragged(rows, "input").lengths - 1 if self.pools_last else 0
            batch["target_positions"] = np.arange(num_rows) * width + last
            batch["labels"] = np.asarray(rows["label"]).astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def turns(self, phase: str, step: int) -> list[Turn]:
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
