"""What a network of text predicts in rows, as its objective asks it.

rows ─► drawn ─► collate ─► prepare ─► guesses at each target: log p of the truth, the likeliest ids
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows
from training.models.text.network import Judgements
from training.objectives.text import Targets, TextObjective

LOGITS = 1 << 24  # of a batch: 64 MiB


class Judged(NamedTuple):
    """Of the tokens that a network is shown, by row: what they are, whether they were replaced, and the probability
    of that as the network says it."""

    ids: Ragged
    replaced: Ragged
    p: Ragged


class Predictions(NamedTuple):
    """Of M targets, row by row.

    rows: as the objective was given them. truth: log p of what stands there, float64 [M]. ids, of_ids: the likeliest
    ids and their log p, [M, k]. judged: None of networks that judge no tokens.
    """

    rows: Rows
    targets: Targets
    truth: np.ndarray
    ids: np.ndarray
    of_ids: np.ndarray
    judged: Judged | None = None


class Predictor:
    """An objective whose networks are asked, in evaluation mode and in fp32."""

    def __init__(self, objective: TextObjective, device: torch.device) -> None:
        self.objective, self.device = objective, device
        self.networks: Mapping[str, torch.nn.Module] = objective.networks()
        for network in self.networks.values():
            network.to(device).eval()

    @torch.no_grad()
    def __call__(self, rows: Rows, draws: Draws, most: int) -> Predictions:
        """Predictions in corrupted rows. draws: of what the objective draws itself. most: k."""
        objective = self.objective
        rows = objective.drawn(rows, draws)
        batch = {name: tensor.to(self.device) for name, tensor in objective.collate(rows).items()}
        batch = objective.prepare(self.networks, batch, draws)
        guesses, judgements = objective.guesses(batch, most), objective.judgements(batch)
        targets = objective.targets(rows)
        truth, ids, of_ids = (part.cpu().numpy() for part in guesses)
        if len(truth) != len(targets.ids.values):
            raise ValueError(f"{len(truth)} guesses at {len(targets.ids.values)} targets")
        judged = None if judgements is None else _by_row(judgements)
        return Predictions(rows, targets, truth.astype(np.float64), ids, of_ids, judged)

    def rows_at_once(self, targets: int, vocabulary: int) -> int:
        """How many rows of at most so many targets make a batch."""
        return max(1, LOGITS // max(1, targets * vocabulary))


def _by_row(judgements: Judgements) -> Judged:
    ids, replaced, p, is_token = (part.cpu().numpy() for part in judgements)
    return Judged(*(Ragged.from_lengths(part[is_token], is_token.sum(1)) for part in (ids, replaced, p)))
