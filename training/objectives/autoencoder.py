"""The plain auto-encoder: rebuild the input through a bottleneck. On noisy rows it is the denoising one.

The loss is the mean per value of the squared error or, for values in 0 … 1, of the cross-entropy (Vincent et al. 2010).
"""

from __future__ import annotations

from pathlib import Path

from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import Autoencoder, AutoencoderOptions, Shape, network_config
from training.objectives.arrays import ArrayObjective, rebuilding
from training.options import checked


def build(
    objective: ObjectiveConfig, network: NetworkConfig, shape: Shape, device: str, transform: Path | None = None
) -> ArrayObjective:
    """The objective for examples of this shape; `transform` is the file to keep beside the exported network."""
    options = checked(AutoencoderOptions, objective.options, "objective.options")
    model = Autoencoder(network_config(network, shape), shape, options)
    return ArrayObjective(model, *rebuilding(options.loss, model.values), transform)
