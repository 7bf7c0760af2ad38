"""Masked language modelling, optionally with a sentence head (NSP, SOP).

x″ are the masked positions' tokens and, with a sentence head, whether the second segment is random (NSP, Devlin et
al. 2019, section 3.1) or the segments are swapped (SOP, Lan et al. 2020, section 3.1). The two losses are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, ragged
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.architectures import encoder_problems, sentence_problems
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.text import TextObjective, flat_positions, summed_by_row

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.text.masked_lm import MaskedLMNetwork

VERSION = 1


class MaskedLMOptions(Settings):
    """`objective.options` of `masked-lm`."""

    sentence: Literal["none", "nsp", "sop"] = "none"
    """Also predict how the two segments of a row are related, as they were composed (`compose.kind`)."""


Options = MaskedLMOptions


def check(options: MaskedLMOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from encoder_problems(networks["model"])
    if options.sentence != "none":
        yield from sentence_problems(networks["model"])


def composed(options: MaskedLMOptions) -> dict[str, str]:
    """The sentence head predicts what rows were composed to show."""
    return {} if options.sentence == "none" else {"sentence": options.sentence}


class MaskedLM(TextObjective):
    """See the module's docstring."""

    def __init__(
        self, options: MaskedLMOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        super().__init__(networks, data, device)
        self.sentence = options.sentence
        self.shown = ["mlm", "mlm_accuracy"]
        if self.sentence != "none":
            self.shown += [self.sentence, f"{self.sentence}_accuracy"]
        self.set_network(self.new_network())

    def new_network(self) -> MaskedLMNetwork:
        """The network that is trained, randomly initialised."""
        from training.models.text.masked_lm import MaskedLMNetwork

        return MaskedLMNetwork(self.config, self.sentence)

    def collate(self, rows: Rows) -> Batch:
        batch, width = self.padded(rows)
        batch["target_positions"] = flat_positions(ragged(rows, "target_positions"), width)
        batch["target_ids"] = ragged(rows, "target_ids").values.astype(np.int64)
        if self.sentence == "none":
            batch.pop("starts", None)  # nothing is pooled
        else:
            label = rows["label"]
            batch["label"] = (label.values if isinstance(label, Ragged) else np.asarray(label)).astype(np.int64)
        return self.tensors(batch)

    def example(self, n: int) -> Rows:
        rows = super().example(n)
        return rows if self.sentence == "none" else {**rows, "label": np.zeros(n, np.uint8)}

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        weights = {"mlm": float(len(batch["target_ids"]))}
        if self.sentence != "none":
            weights[self.sentence] = float(len(batch["label"]))
        return weights

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        self.choose_attention(batch)
        return self._terms(nets["model"](**batch), batch)

    def _terms(self, sums: Mapping[str, Tensor], batch: Batch) -> Loss:
        """The loss that the sums of a forward pass make."""
        weights = self._weights(batch)
        losses = {"mlm": sums["mlm"]}
        metrics = {"mlm_accuracy": (sums["mlm_correct"], weights["mlm"])}
        rows, width = batch["input_ids"].shape
        by_row = self.by_row("mlm", sums["mlm_losses"], batch, width)
        if self.sentence != "none":
            losses[self.sentence] = sums["sentence"]
            metrics[f"{self.sentence}_accuracy"] = (sums["sentence_correct"], weights[self.sentence])
            if "source" in batch:
                row_numbers = torch.arange(rows, device=batch["label"].device)
                of_label = batch["starts"] // width if "starts" in batch else row_numbers
                by_row[self.sentence] = summed_by_row(sums["sentence_losses"], of_label, rows)
        return Loss(losses, metrics, by_row)


build = MaskedLM
