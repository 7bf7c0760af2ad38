"""Masked language modelling and the span boundary objective (SpanBERT: Joshi et al. 2020, arXiv:1907.10529, section 3).

    loss = mean over the hidden tokens of −log p from their own position
         + Σ over the hidden tokens of −log p from their span's boundaries / (their number + 1)

The second term predicts each token of a hidden span from the tokens on its two sides and from its place in the span
(`training.models.text.span_boundary`). A span is a run of hidden tokens in one sequence. A span at an end of its text
has no token there, and no such term; nor have tokens beyond the `longest`-th of a span. The published code divides by
the number plus one on each device; here that one is added once in a step, however the step is divided.

The head is only for pretraining: the encoder is exported with its masked-LM head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Rows, Specials, ragged
from training.config import NetworkConfig
from training.models.text.architectures import encoder_problems
from training.objective import Batch, Loss, Turn
from training.objectives.masked_lm import MaskedLM, MaskedLMOptions
from training.objectives.text import seen_tokens, summed_by_row

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.text.span_boundary import SpanBoundaryNetwork

VERSION = 1


class SpanBoundaryOptions(Settings):
    """`objective.options` of `span-boundary`."""

    longest: int = Field(default=15, ge=1)
    """Tokens of a span that are predicted from its boundaries; those after them are not (the code's default: 20)."""
    place_size: int = Field(default=200, ge=1)
    """Size of the embedding of a token's place in its span."""


Options = SpanBoundaryOptions


def check(options: SpanBoundaryOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from encoder_problems(networks["model"])


class SpanBoundary(MaskedLM):
    """See the module's docstring."""

    network: SpanBoundaryNetwork

    def __init__(
        self, options: SpanBoundaryOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        self.options = options
        super().__init__(MaskedLMOptions(), networks, data, device)
        self.shown = [*self.shown, "sbo", "sbo_accuracy"]
        self.is_end = ends_of_text(self.specials)

    def new_network(self) -> SpanBoundaryNetwork:
        from training.models.text.span_boundary import SpanBoundaryNetwork

        return SpanBoundaryNetwork(self.config, self.options.longest, self.options.place_size)

    def collate(self, rows: Rows) -> Batch:
        batch = super().collate(rows)
        spans = span_columns(rows, batch["input_ids"].shape[1], self.options.longest, self.is_end)
        return batch | self.tensors(spans)

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss, extra={"sbo": 1.0})]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return super()._weights(batch) | {"sbo": float(len(batch["span_ids"]))}

    def _terms(self, sums: Mapping[str, Tensor], batch: Batch) -> Loss:
        loss = super()._terms(sums, batch)
        rows, width = batch["input_ids"].shape
        by_row = {}
        if "source" in batch:
            by_row["sbo"] = summed_by_row(sums["sbo_losses"], batch["span_before"] // width, rows)
        accuracy = {"sbo_accuracy": (sums["sbo_correct"], float(len(batch["span_ids"])))}
        return Loss({**loss.sums, "sbo": sums["sbo"]}, {**loss.metrics, **accuracy}, {**loss.by_row, **by_row})

    def num_targets(self, batch: Batch) -> int:
        return super().num_targets(batch) + len(batch["span_ids"])

    def flops(self, batch: Batch) -> float:
        projection = self.network.boundary.projection.weight
        layers = sum(p.numel() for p in self.network.boundary.layers.parameters() if p.ndim == 2)
        return super().flops(batch) + 3.0 * 2 * (layers + projection.numel()) * len(batch["span_ids"])


def ends_of_text(specials: Specials) -> np.ndarray:
    """[vocabulary] bool: the special tokens that are no part of a text, such as [CLS] and [SEP]."""
    is_end = specials.is_special.copy()
    for role in ("mask", "unk"):
        number = specials.get(role)
        if number is not None:
            is_end[number] = False
    return is_end


def span_columns(rows: Rows, width: int, longest: int, is_end: np.ndarray) -> dict[str, np.ndarray]:
    """The tokens [N] that are predicted from their spans' boundaries, of rows padded to `width`; all int64.

    `span_before`, `span_behind`: flat places b·width + l of the boundaries. `span_place`: number of the token in its
    span, from 0. `span_ids`: the token.
    """
    tokens, positions = seen_tokens(rows), ragged(rows, "target_positions")
    row, index = positions.row_index(), positions.values.astype(np.int64)
    place = tokens.offsets[row] + index  # of the targets among all tokens
    opens = np.zeros(len(tokens.values) + 1, bool)  # where a row or a sequence begins, and where the last one ends
    opens[tokens.offsets] = True
    if "sequence" in rows:
        opens[1:-1] |= np.diff(ragged(rows, "sequence").values) != 0
    begins = np.append(True, (np.diff(place) != 1) | opens[place[1:]])[: len(place)]
    first = np.flatnonzero(begins)
    span = np.cumsum(begins) - 1
    start, end = place[first], place[np.append(first[1:], len(place))[: len(first)] - 1]
    padded = np.append(tokens.values, 0)
    has_both = ~opens[start] & ~opens[end + 1] & ~is_end[padded[start - 1]] & ~is_end[padded[end + 1]]
    in_span = place - start[span]
    chosen = has_both[span] & (in_span < longest)
    flat, span, in_span = (row * width + index)[chosen], span[chosen], in_span[chosen]
    return {
        "span_before": flat - in_span - 1,
        "span_behind": flat - in_span + (end - start)[span] + 1,
        "span_place": in_span,
        "span_ids": ragged(rows, "target_ids").values[chosen].astype(np.int64),
    }


build = SpanBoundary
