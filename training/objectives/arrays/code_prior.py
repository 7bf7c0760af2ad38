"""A distribution of discrete codes, learned from those of an auto-encoder (`models.autoencoders.code_prior`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.shards.rows import Rows
from training.lazy import torch
from training.objective import BaseObjective, Batch, Loss, Networks, Turn

if TYPE_CHECKING:
    from torch import nn

    from training.models.autoencoders.code_prior import CodePrior


class PriorObjective(BaseObjective):
    """Cross-entropy of codes, in nats a code. Rows have a column `codes` [R, P]."""

    unit = "codes"

    def __init__(self, prior: CodePrior) -> None:
        from training.models.autoencoders.code_prior import PriorPlayer

        self.prior = prior
        self.player = PriorPlayer(prior)

    def networks(self) -> dict[str, nn.Module]:
        return {"prior": self.player}

    def collate(self, rows: Rows) -> Batch:
        return {"codes": torch.as_tensor(rows["codes"]).long()}

    def num_positions(self, batch: Batch) -> int:
        return batch["codes"].numel()

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("prior", lambda batch: {"cross-entropy": float(batch["codes"].numel())}, self._loss)]

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        return Loss({"cross-entropy": nets["prior"](batch["codes"]).sum()})
