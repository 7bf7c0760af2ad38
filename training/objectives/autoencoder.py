"""The plain auto-encoder: rebuild the input through a bottleneck. On noisy rows it is the denoising one.

The loss is the mean per value of the squared error or, for values in 0 … 1, of the cross-entropy (Vincent et al. 2010).
"""

from __future__ import annotations

from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import Autoencoder, AutoencoderOptions, network_config
from training.objectives.arrays import ArrayObjective, rebuilding, transform_of
from training.options import checked


def build(objective: ObjectiveConfig, network: NetworkConfig, data: DataFacts, device: str) -> ArrayObjective:
    """The objective for examples of the shape that `data` has."""
    options = checked(AutoencoderOptions, objective.options, "objective.options")
    model = Autoencoder(network_config(network, data.shape), data.shape, options)
    return ArrayObjective(model, *rebuilding(options.loss, model.values), transform_of(data))
