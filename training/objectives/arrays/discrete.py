"""Auto-encoders whose codes are whole numbers: binary, one-hot or of a codebook; see `training.models.autoencoders.vq`.

Everything is a mean per value of the input, of the codes' vectors (commitment, codebook) or per code (uniform).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.facts import DataFacts
from training.config import NetworkConfig
from training.models.autoencoders.config import network_config
from training.objective import Batch, Loss, Networks
from training.objectives.arrays.autoencoder import AutoencoderOptions
from training.objectives.arrays.base import ArrayObjective, loss_problems, rebuilding, transform_of

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.autoencoders.vq import DiscreteAutoencoder

VERSION = 1


class DiscreteOptions(AutoencoderOptions):
    """`objective.options` of `discrete`."""

    codes: Literal["binary", "one-hot", "vq"] = "vq"
    """Form of the codes: bits, one-hot vectors, or vectors of a codebook."""
    size: int = Field(default=512, ge=2)
    """K: number of values a code can take (binary: always 2)."""
    sample: bool = True
    """binary, one-hot: draw codes at random in training, instead of taking the likeliest."""
    temperature: float = Field(default=1.0, gt=0)
    """one-hot: temperature of the softmax that the gradient is computed from."""
    uniform: float = Field(default=0.0, ge=0)
    """binary, one-hot: weight of the codes' divergence from the uniform distribution."""
    dimension: int = Field(default=16, ge=1)
    """vq: length of a vector of the codebook."""
    codebook: Literal["ema", "gradient"] = "ema"
    """vq: whether the codebook follows averages of the vectors that chose it (ema) or a gradient."""
    commitment: float = Field(default=0.25, ge=0)
    """vq: weight of the encoder's distance to its codes."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """Factor by which the averages of the codebook and of the codes' use decay in each step."""
    revive: float = Field(default=0.1, ge=0, lt=1)
    """vq: a code that is used less than this share of the mean use is restarted; 0: never."""


Options = DiscreteOptions


def check(options: DiscreteOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network or the loss."""
    yield from loss_problems(options.loss, networks)


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
        self.step_usage: dict[str, list[Tensor]] = _nothing()

    def before_step(self, step: int, steps: int) -> None:
        self.step_usage = _nothing()

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        by_row = nets["model"](batch["seen"], batch["input"])
        loss = self.summed(by_row, batch)
        if not self.player.training:
            return loss  # the running counts are those of training
        self.step_usage["indices"].append(by_row["indices"])
        self.step_usage["vectors"].append(by_row["vectors"])
        self.step_usage["rows"].append(batch["seen"])
        rows = float(len(batch["input"]))
        watched = {name: (value * rows, rows) for name, value in self.model.watched().items()}
        return Loss(loss.sums, {**loss.metrics, **watched}, loss.by_row)

    def after_step(self, step: int, steps: int) -> None:
        from training.models.autoencoders.vq import Usage

        self.model.update(Usage(**self.step_usage), self.worker)

    def refuses(self, zero: int | None) -> str | None:
        if zero and "codebook" in self.terms:
            return "objective.options.codebook: ZeRO keeps copies of one that learns by gradient; set it to ema."
        return super().refuses(zero)


def _nothing() -> dict[str, list[Tensor]]:
    return {"indices": [], "vectors": [], "rows": []}


def build(options: DiscreteOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> Discrete:
    """The objective for examples of the data's shape."""
    from training.models.autoencoders.vq import DiscreteAutoencoder

    model = DiscreteAutoencoder(network_config(networks["model"], data.shape), data.shape, options)
    return Discrete(model, transform_of(data))
