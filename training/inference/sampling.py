"""New examples from the folder of a model, for models that can be sampled from.

open_sampler(folder).sample(n, generator)  ─►  rows
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from data_prep.errors import UserError
from data_prep.shards.rows import Rows
from training.inference.opening import network_kind, open_model
from training.models.autoencoders.code_prior import open_prior
from training.models.autoencoders.vae import VariationalAutoencoder
from training.models.autoencoders.vq import DiscreteAutoencoder

BATCH = 256  # examples decoded at once


class Sampler(Protocol):
    """A trained network that gives new examples."""

    def sample(self, n: int, generator: torch.Generator, given: Rows | None = None) -> Rows:
        """n rows drawn by `generator`, a CPU one. given: rows to continue from, for networks that take some."""
        ...


@dataclass(frozen=True)
class ArraySampler:
    """Codes are drawn all at once and decoded on the device, so many at a time. Rows have `input` [n, *shape]."""

    draw: Callable[[int, torch.Generator], Tensor]
    decode: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, given: Rows | None = None) -> Rows:
        if given is not None:
            raise ValueError("this network takes no rows to continue from; leave out `given`")
        codes = self.draw(n, generator)
        examples = [self.decode(chunk.to(self.device)).float().cpu() for chunk in codes.split(BATCH)]
        return {"input": torch.cat(examples).numpy()}


def open_sampler(folder: Path, device: str = "cpu") -> Sampler:
    """The sampler of a folder that training wrote. Raises UserError where its model cannot be sampled from."""
    place = torch.device(device)
    model: Any = open_model(folder, device) if network_kind(folder) == "array" else None
    if isinstance(model, VariationalAutoencoder):
        return ArraySampler(model.codes, model.decode, place)
    if not isinstance(model, DiscreteAutoencoder):
        kind = "an encoder of text" if model is None else f"a model of kind {model.kind}"
        raise UserError(
            f"{folder}: {kind} has no distribution of codes to draw from; "
            "train one with objective vae, or discrete with the job `discrete`."
        )
    prior = open_prior(folder)
    if prior is None:
        raise UserError(
            f"{folder}: has no prior of its codes; name the artifact of a job `discrete`, which learns one."
        )
    return ArraySampler(prior.sample, lambda codes: decoded(model, codes), place)


def decoded(model: DiscreteAutoencoder, codes: Tensor) -> Tensor:
    """The reconstructions [B, *shape] from codes [B, P]."""
    return model.decode(model.from_indices(codes.view(len(codes), *model.code_shape())))
