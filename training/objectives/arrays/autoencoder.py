"""The plain auto-encoder: rebuild the input through a bottleneck. On noisy rows it is the denoising one.

The loss is the mean per value of the squared error or, for values in 0 … 1, of the cross-entropy (Vincent et al. 2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from training.config import NetworkConfig
from training.models.autoencoders.config import network_config
from training.objectives.arrays.base import ArrayObjective, loss_problems, rebuilding, transform_of

VERSION = 1


class AutoencoderOptions(Settings):
    """`objective.options` of auto-encoders."""

    loss: Literal["squared-error", "cross-entropy"] = "squared-error"
    """Error of each value; cross-entropy is for values in 0 … 1 and a sigmoid output."""


Options = AutoencoderOptions


def check(options: AutoencoderOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network or the loss."""
    yield from loss_problems(options.loss, networks)


def build(
    options: AutoencoderOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
) -> ArrayObjective:
    """The objective for examples of the data's shape."""
    from training.models.autoencoders.autoencoder import Autoencoder

    model = Autoencoder(network_config(networks["model"], data.shape), data.shape, options)
    return ArrayObjective(model, *rebuilding(options.loss, model.values), transform_of(data))
