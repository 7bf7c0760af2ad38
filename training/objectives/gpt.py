"""Next-token prediction (Radford et al. 2019): every token of a sequence from those before it.

    seen      [BOS]  once  upon  a     time
    predicted  once  upon  a     time  [EOS]

A row may hold several documents, or parts of them (`compose.kind: stream`): each is a sequence of its own, with its own
positions and its own attention. The first token of a sequence is predicted from nothing, so it is not predicted at
all; with `compose.frame: bos-eos` that is [BOS], and every token of a document's text is learned. GPT-2 and nanoGPT,
which let attention run on from one document into the next, predict it from the [EOS] before it instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, ragged
from training.config import NetworkConfig
from training.models.text.architectures import decoder_problems
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.text import Targets, TextObjective, flat_positions, seen_tokens

VERSION = 1


class GPTOptions(Settings):
    """`objective.options` of `gpt`; there are none."""


Options = GPTOptions


def check(options: GPTOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from decoder_problems(networks["model"])


def next_tokens(rows: Rows) -> tuple[Ragged, Ragged]:
    """Positions whose next token is predicted, and those tokens: all of a sequence but its last, and but its first."""
    tokens = seen_tokens(rows)
    follows = tokens.positions() > 0  # another token of its sequence
    if "sequence" in rows:
        follows[1:] &= np.diff(ragged(rows, "sequence").values) == 0
    place = np.flatnonzero(follows)
    offsets = np.searchsorted(place, tokens.offsets)
    return Ragged(tokens.positions()[place] - 1, offsets), Ragged(tokens.values[place], offsets)


class GPT(TextObjective):
    """See the module's docstring."""

    def __init__(
        self, options: GPTOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from training.models.text.causal_lm import CausalLMNetwork

        super().__init__(networks, data, device)
        self.shown = ["lm", "lm_accuracy"]
        self.set_network(CausalLMNetwork(self.config))
        self.head = self.config.hidden_size * self.specials.vocabulary  # no layer before the projection

    def collate(self, rows: Rows) -> Batch:
        batch, width = self.padded(rows)
        positions, ids = next_tokens(rows)
        batch["target_positions"] = flat_positions(positions, width)
        batch["target_ids"] = ids.values.astype(np.int64)
        batch.pop("starts", None)  # nothing is pooled
        return self.tensors(batch)

    def targets(self, rows: Rows) -> Targets:
        positions, ids = next_tokens(rows)
        sequence = ragged(rows, "sequence") if "sequence" in rows else None
        places = Ragged(positions.values + 1, positions.offsets)
        return Targets(seen_tokens(rows), places, ids, both_sides=False, sequence=sequence)

    def example(self, n: int) -> Rows:
        return {"input": super().example(n)["seen"]}

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {"lm": float(len(batch["target_ids"]))}

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        self.choose_attention(batch)
        sums = nets["model"](**batch)
        by_row = self.by_row("lm", sums["losses"], batch, batch["input_ids"].shape[1])
        return Loss({"lm": sums["lm"]}, {"lm_accuracy": (sums["correct"], self._weights(batch)["lm"])}, by_row)


build = GPT
