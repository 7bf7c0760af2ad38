"""The variational auto-encoder; see `training.models.vae`. Terms and bounds are in nats per example."""

from __future__ import annotations

from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import network_config
from training.models.vae import VaeOptions, VariationalAutoencoder
from training.objectives.arrays import ArrayObjective, transform_of
from training.options import checked


def build(objective: ObjectiveConfig, network: NetworkConfig, data: DataFacts, device: str) -> ArrayObjective:
    """The objective for examples of the shape that `data` has."""
    options = checked(VaeOptions, objective.options, "objective.options")
    model = VariationalAutoencoder(network_config(network, data.shape), data.shape, options)
    metrics = {"elbo": 1.0, "squared-error": float(model.values)}
    return ArrayObjective(model, {"reconstruction": 1.0, "divergence": 1.0}, metrics, transform_of(data))
