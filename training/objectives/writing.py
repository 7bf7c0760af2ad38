"""Fine-tuning a network that writes: each token of a text from a source, and from the tokens before it.

    encoder and decoder   the encoder sees     S o u r c e </s>      (Raffel et al. 2020, section 2.4)
                          the decoder sees     <start> t e x t
                          it predicts          t e x t </s>
    decoder alone         it sees              <s> S o u r c e t e x t
                          it predicts                        t e x t </s>

Rows: `input`, the ids of a source as the network is given a prompt; `target_tokens`, those of the text, with the id
that ends it. What the network was given is not learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.shards.rows import Ragged, Rows, ragged
from training.lazy import torch
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import flat_positions, padded_width

if TYPE_CHECKING:
    from torch import nn

    from training.models.text.writing import TaskWriter


class Writing(BaseObjective):
    """Trains all of a language model. most: tokens of a text that it writes, its end included."""

    unit = "tokens"
    shown: Sequence[str] = ("lm", "lm_accuracy")

    def __init__(self, encoder: TaskWriter, most: int) -> None:
        from training.models.text.writing import WritingNetwork

        self.encoder, self.most = encoder, most
        self.network = WritingNetwork(encoder.network)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        given, targets = ragged(rows, "input"), ragged(rows, "target_tokens")
        two_stacks = self.encoder.architecture.encoder_decoder
        batch = self._after(given, targets) if two_stacks else self._continued(given, targets)
        batch["target_ids"] = targets.values.astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _after(self, given: Ragged, targets: Ragged) -> dict[str, np.ndarray]:
        """What an encoder and its decoder see."""
        width = self._width(int(targets.lengths.max()))
        decoder = np.full((len(targets), width), self.encoder.pad)
        places = flat_positions(Ragged(targets.positions(), targets.offsets), width)
        decoder.flat[places] = targets.values
        first = np.full((len(targets), 1), self.encoder.start)
        return {
            **self._padded(given),
            "decoder_input_ids": np.concatenate([first, decoder[:, :-1]], axis=1),
            "target_positions": places,
        }

    def _continued(self, given: Ragged, targets: Ragged) -> dict[str, np.ndarray]:
        """What a decoder alone sees: source and text, without the last token."""
        rows = [np.concatenate([given.row(row), targets.row(row)[:-1]]).astype(np.int64) for row in range(len(targets))]
        batch = self._padded(Ragged.from_rows(rows, np.int64))
        positions = targets.positions() + np.repeat(given.lengths - 1, targets.lengths)
        width = batch["input_ids"].shape[1]
        return {**batch, "target_positions": flat_positions(Ragged(positions, targets.offsets), width)}

    def _padded(self, ids: Ragged) -> dict[str, np.ndarray]:
        width = self._width(int(ids.lengths.max()))
        return {
            "input_ids": ids.pad(width, self.encoder.pad).astype(np.int64),
            "attention_mask": (np.arange(width) < ids.lengths[:, None]).astype(np.int64),
        }

    def _width(self, length: int) -> int:
        return padded_width(length, self.encoder.architecture.block, self.encoder.length)

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", lambda batch: {"lm": float(len(batch["target_ids"]))}, self._loss)]

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        sums: Any = networks["model"](**batch)
        return Loss({"lm": sums["lm"]}, {"lm_accuracy": (sums["correct"], float(len(batch["target_ids"])))})

    def scores(self, rows: Rows) -> Ragged:
        """The ids of what it writes after each row's source, without the id that ends it."""
        self.network.eval()
        return self.encoder.write(ragged(rows, "input"), self.most)

    def is_finite(self, rows: Rows) -> bool:
        """Whether the log probability of rows' texts is a number: ids that are written are, whatever they come from."""
        self.network.eval()
        device = next(self.network.parameters()).device
        with torch.no_grad():
            sums = self.network(**{name: tensor.to(device) for name, tensor in self.collate(rows).items()})
        return bool(torch.isfinite(sums["lm"]))
