"""The variational auto-encoder; see `training.models.autoencoders.vae`. Terms and bounds are in nats per example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from training.config import NetworkConfig
from training.models.autoencoders.config import network_config, network_problems
from training.objectives.arrays.base import ArrayObjective, encoder_settings, transform_of

VERSION = 1


class VaeOptions(Settings):
    """`objective.options` of `vae`."""

    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """Distribution p(x|z) of each value."""
    variance: float | Literal["learned"] = "learned"
    """gaussian: variance of every value, a positive number, or learned with the weights."""
    binarise: bool = False
    """bernoulli: draw each value as 0 or 1, with the value itself as the probability of 1."""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the divergence (Higgins et al. 2017); 1: the ELBO."""
    free_bits: float = Field(default=0.0, ge=0)
    """Nats of divergence per example and dimension below which the loss does not fall further; 0: off."""


Options = VaeOptions


def check(options: VaeOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network, and where options do not fit it or each other."""
    yield from network_problems(networks["model"])
    if options.likelihood == "bernoulli" and encoder_settings(networks).get("output") != "sigmoid":
        yield "objective.options.likelihood", "bernoulli needs network.config.output: sigmoid"
    if options.binarise and options.likelihood != "bernoulli":
        yield "objective.options.binarise", "zeros and ones need likelihood: bernoulli; set that, too"
    if options.variance != "learned" and options.variance <= 0:
        yield "objective.options.variance", f"found {options.variance:g}; it is more than 0, or learned"


def build(options: VaeOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> ArrayObjective:
    """The objective for examples of the data's shape."""
    from training.models.autoencoders.vae import VariationalAutoencoder

    model = VariationalAutoencoder(network_config(networks["model"], data.shape), data.shape, options)
    metrics = {"elbo": 1.0, "squared-error": float(model.values)}
    return ArrayObjective(model, {"reconstruction": 1.0, "divergence": 1.0}, metrics, transform_of(data))
