"""Auto-encoders whose codes are whole numbers: binary, one-hot or of a codebook; see `training.models.vq`.

Everything is a mean per value of the input, of the codes' vectors (commitment, codebook) or per code (uniform).
"""

from __future__ import annotations

import math
from pathlib import Path

from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import network_config
from training.models.vq import DiscreteAutoencoder, DiscreteOptions, Usage
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.arrays import ArrayObjective, rebuilding, transform_of
from training.options import checked


class Discrete(ArrayObjective):
    """Updates the running counts of codes, and the codebook that follows its vectors, after every step."""

    model: DiscreteAutoencoder

    def __init__(self, model: DiscreteAutoencoder, transform: Path | None) -> None:
        options, codes = model.options, float(math.prod(model.code_shape()))
        terms, metrics = rebuilding(options.loss, model.values)
        if options.codes == "vq":
            terms["commitment"] = codes * model.width
            if options.codebook == "gradient":
                terms["codebook"] = codes * model.width
        elif options.uniform:
            terms["uniform"] = codes
        super().__init__(model, terms, metrics, transform)
        self.seen = Usage()

    def turns(self, phase: str) -> list[Turn]:
        self.seen = Usage()  # what was skipped or evaluated leaves nothing
        return super().turns(phase)

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        found = nets["model"](batch["seen"], batch["input"])
        self.seen.indices.append(found["indices"])
        self.seen.vectors.append(found["vectors"])
        self.seen.rows.append(batch["seen"])
        loss = self.summed(found, batch)
        if not self.step.training:
            return loss  # the running counts are those of training
        rows = float(len(batch["input"]))
        watched = {name: (value * rows, rows) for name, value in self.model.watched().items()}
        return Loss(loss.sums, {**loss.metrics, **watched}, loss.by_row)

    def after_step(self) -> None:
        self.model.update(self.seen, self.worker)

    def refuses(self, zero: int | None) -> str | None:
        if zero and "codebook" in self.terms:
            return "objective.options.codebook: ZeRO keeps copies of one that learns by gradient; set it to ema."
        return super().refuses(zero)


def build(objective: ObjectiveConfig, network: NetworkConfig, data: DataFacts, device: str) -> Discrete:
    """The objective for examples of the shape that `data` has."""
    options = checked(DiscreteOptions, objective.options, "objective.options")
    return Discrete(DiscreteAutoencoder(network_config(network, data.shape), data.shape, options), transform_of(data))
