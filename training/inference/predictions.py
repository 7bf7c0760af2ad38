"""What a network of text predicts in rows, as its objective asks it.

rows ─► drawn ─► collate ─► prepare ─► guesses at each target: log p of the truth, the likeliest ids
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows
from training.models.text.network import Guesses, Judgements
from training.objective import Batch, Objective
from training.objectives.text import Targets

LOGITS = 1 << 24  # of a batch: 64 MiB


class PredictingObjective(Objective, Protocol):
    """An objective that can be asked what its networks predict. `TextObjective` has the common answers."""

    def targets(self, rows: Rows) -> Targets:
        """What is predicted in rows, in the order of `guesses`."""
        ...

    def guesses(self, batch: Batch, most: int) -> Guesses:
        """What the network says at each target of a prepared batch, with its `most` likeliest ids."""
        ...

    def judgements(self, batch: Batch) -> Judgements | None:
        """What it says of each token that it is shown; None: it judges no tokens."""
        ...

    def written(self, rows: Rows, most: int) -> Ragged | None:
        """What it writes by itself, at most `most` tokens for each row; None: it writes nothing."""
        ...

    def load_export(self, path: Path) -> None:
        """Give the networks the weights that `export` wrote."""
        ...


class Judged(NamedTuple):
    """Of the tokens that a network is shown, by row: what they are, whether they were replaced, and the probability
    of that as the network says it."""

    ids: Ragged
    replaced: Ragged
    p: Ragged


class Predictions(NamedTuple):
    """Of M targets, row by row.

    rows: as the objective was given them. truth: log p of the true ids, float64 [M]. ids, of_ids: the likeliest
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

    def __init__(self, objective: PredictingObjective, device: torch.device) -> None:
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
