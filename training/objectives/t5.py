"""A sequence from another one, with teacher forcing (T5: Raffel et al. 2019, arXiv:1910.10683, section 3.1).

    the encoder sees   thank you <extra_id_0> me to your party <extra_id_1> week </s>
    the decoder sees   <start>       <extra_id_0>  for       inviting      <extra_id_1>  last
    it predicts        <extra_id_0>  for           inviting  <extra_id_1>  last          </s>

The decoder begins with the token of the role decoder_start, which is that of padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, ragged
from training.config import NetworkConfig
from training.models.text.architectures import sequence_problems
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.text import TextObjective, flat_positions, summed_by_row

VERSION = 1


class T5Options(Settings):
    """`objective.options` of `t5`; there are none."""


Options = T5Options


def check(options: T5Options, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from sequence_problems(networks["model"])


class T5(TextObjective):
    """See the module's docstring."""

    def __init__(self, options: T5Options, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> None:
        from training.models.text.sequence_to_sequence import SequenceToSequenceNetwork

        super().__init__(networks, data, device)
        self.start = self.specials.decoder_start
        self.shown = ["lm", "lm_accuracy"]
        self.set_network(SequenceToSequenceNetwork(self.config))
        self.head = self.config.hidden_size * self.specials.vocabulary  # no layer before the projection

    def collate(self, rows: Rows) -> Batch:
        batch, _ = self.padded(rows)
        targets = ragged(rows, "target_tokens")
        block = self.architecture.block
        width = math.ceil(int(targets.lengths.max()) / block) * block
        ids = targets.pad(width, self.pad).astype(np.int64)
        batch["decoder_input_ids"] = np.concatenate([np.full((len(ids), 1), self.start), ids[:, :-1]], axis=1)
        batch["target_positions"] = flat_positions(Ragged(targets.positions(), targets.offsets), width)
        batch["target_ids"] = targets.values.astype(np.int64)
        batch["target_lengths"] = targets.lengths
        return self.tensors(batch)

    def example(self, n: int) -> Rows:
        rows = super().example(n)
        return {"seen": rows["seen"], "target_tokens": rows["target_ids"]}

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {"lm": float(len(batch["target_ids"]))}

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        sums = nets["model"](**batch)
        rows, width = batch["decoder_input_ids"].shape
        by_row = {}
        if "source" in batch:
            by_row["lm"] = summed_by_row(sums["losses"], batch["target_positions"] // width, rows)
        return Loss({"lm": sums["lm"]}, {"lm_accuracy": (sums["correct"], self._weights(batch)["lm"])}, by_row)

    def flops(self, batch: Batch) -> float:
        from training.models.text.sequence_to_sequence import sequence_to_sequence_flops

        seen, targets = batch["attention_mask"].sum(1), batch["target_lengths"]
        forward = sequence_to_sequence_flops(self.network.model, seen, targets)
        return 3.0 * (forward + 2 * self.head * len(batch["target_ids"]))


build = T5
