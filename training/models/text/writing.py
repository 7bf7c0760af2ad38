"""A language model of `transformers`, of one stack or two, as it is fine-tuned on texts to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from data_prep.shards.rows import Ragged
from training.models.text.architectures import Architecture
from training.models.text.network import TextNetwork


class TaskWriter(Protocol):
    """A language model as a task trains it."""

    @property
    def network(self) -> Any:
        """The network of `transformers`, with its head on the vocabulary."""
        ...

    @property
    def architecture(self) -> Architecture: ...

    @property
    def length(self) -> int | None:
        """Its most positions; None: there is no most."""
        ...

    @property
    def pad(self) -> int:
        """What fills rows."""
        ...

    @property
    def start(self) -> int:
        """The token that a decoder beside an encoder begins with."""
        ...

    def write(self, given: Ragged, most: int) -> Ragged:
        """The likeliest ids, one after another, that follow each row of ids, at most so many; without the end's."""
        ...

    def copied(self) -> TaskWriter:
        """The same weights in another network."""
        ...

    def from_random_weights(self) -> TaskWriter:
        """The same shape, drawn by torch's generator."""
        ...

    def save(self, folder: Path) -> None:
        """Write a folder that opens as the one that it was opened from, with the weights that it has now."""
        ...


class WritingNetwork(TextNetwork):
    """One forward gives the sums that the loss is made of: −log p of the targets in fp32, and how many are likeliest.

    Of experts nothing but their answers is learned: the terms that keep their use even belong to pretraining.
    """

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat: of a decoder alone in b·L + l, of two stacks in the decoder's rows
        target_ids: Tensor,  # [M]
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        losses, right, _ = self.predicted(input_ids, target_positions, target_ids, **inputs)
        return {"lm": losses.sum(), "correct": right.sum()}
