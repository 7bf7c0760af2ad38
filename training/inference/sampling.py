"""New examples from a model's folder, for those models that can be drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from data_prep.errors import UserError
from training.models.autoencoder import open_model
from training.models.code_prior import open_prior
from training.models.vae import VariationalAutoencoder
from training.models.vq import DiscreteAutoencoder

Sampler = Callable[[int, torch.Generator], Tensor]


def sampler(folder: Path) -> Sampler:
    """(count, generator) ↦ [count, *shape] float32. UserError where the folder's model cannot be drawn from."""
    model = open_model(folder)
    if isinstance(model, VariationalAutoencoder):
        return model.sample
    if not isinstance(model, DiscreteAutoencoder):
        raise UserError(
            f"{folder}: a model of kind {model.kind} has no distribution of codes to draw from; "
            "train one with objective vae, or discrete with the job `discrete`."
        )
    prior = open_prior(folder)
    if prior is None:
        raise UserError(
            f"{folder}: has no prior of its codes; name the artifact of a job `discrete`, which learns one."
        )

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return decoded(model, prior.sample(count, generator))

    return draw


def decoded(model: DiscreteAutoencoder, codes: Tensor) -> Tensor:
    """What is rebuilt of codes [B, P]."""
    return model.decode(model.from_indices(codes.view(len(codes), *model.code_shape())))
