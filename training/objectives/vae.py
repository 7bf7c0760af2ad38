"""The variational auto-encoder; see `training.models.vae`. Terms and bounds are in nats per example."""

from __future__ import annotations

from pathlib import Path

from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import Shape, network_config
from training.models.vae import VaeOptions, VariationalAutoencoder
from training.objectives.arrays import ArrayObjective
from training.options import checked


def build(
    objective: ObjectiveConfig, network: NetworkConfig, shape: Shape, device: str, transform: Path | None = None
) -> ArrayObjective:
    """The objective for examples of this shape; `transform` is the file to keep beside the exported network."""
    options = checked(VaeOptions, objective.options, "objective.options")
    model = VariationalAutoencoder(network_config(network, shape), shape, options)
    metrics = {"elbo": 1.0, "squared-error": float(model.values)}
    return ArrayObjective(model, {"reconstruction": 1.0, "divergence": 1.0}, metrics, transform)
