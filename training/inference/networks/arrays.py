"""Auto-encoders and other networks of arrays (`training.models.autoencoders`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.images.pixels import MAX_PIXELS
from data_prep.opening import files
from data_prep.opening.files import UnfitError
from data_prep.settings import checked
from data_prep.shards.rows import Rows
from training.config import Settings
from training.inference.encoding import Features, in_batches
from training.models.autoencoders.autoencoder import CONFIG, FORMAT, KINDS, WEIGHTS, Autoencoder
from training.models.autoencoders.code_prior import open_prior
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.vae import VariationalAutoencoder
from training.models.autoencoders.vq import DiscreteAutoencoder
from training.models.opening import built
from training.objectives import OBJECTIVES, module_of

SAMPLES = 256  # decoded at once
LARGEST = 3 * MAX_PIXELS


def describes(config: Mapping[str, Any]) -> bool:
    return str(config.get("kind")) in KINDS


def open_network(folder: Path) -> Any:
    return open_model(folder)


def open_model(folder: Path, device: str = "cpu") -> Any:
    """The model of a folder (`Autoencoder` or a subclass of it), in evaluation mode, for use and not for training.

    Raises UserError where the folder holds no such model.
    """
    try:
        description = files.read_json(files.checked(folder) / CONFIG)
    except UnfitError as error:
        raise UserError(f"{folder}: holds no model of an auto-encoder: {error}; name another.") from None
    if description.get("kind") not in list(KINDS) or description.get("format") != FORMAT:
        raise UserError(
            f"{folder / CONFIG}: not what describes an auto-encoder of format {FORMAT}; train one with Sesame."
        )
    about = checked(_Description, description, str(folder / CONFIG))
    module, _, name = KINDS[about.kind].partition(":")
    kind: type[Autoencoder] = getattr(import_module(module), name)
    config = checked(AutoencoderConfig, about.network, f"{folder / CONFIG}: network")
    settings = module_of(about.kind).Options if about.kind in OBJECTIVES else Settings
    options = checked(settings, about.options, f"{folder / CONFIG}: options")
    model = built(lambda: kind(config, tuple(about.shape), options), folder, CONFIG, WEIGHTS)
    return model.to(device).requires_grad_(False)


class _Description(Settings):
    """What `config.json` of a folder says."""

    format: int
    kind: str
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=3)
    """Of an example."""

    @field_validator("shape")
    @classmethod
    def _of_an_example(cls, value: list[int]) -> list[int]:
        if math.prod(value) > LARGEST:
            raise ValueError(f"an example has at most {LARGEST:,} values")
        return value

    network: dict[str, Any]
    options: dict[str, Any]


def open_encoder(folder: Path, device: torch.device) -> ArrayEncoder:
    return ArrayEncoder(open_model(folder, str(device)), device)


def open_sampler(folder: Path, device: torch.device) -> ArraySampler:
    """UserError where the model has no distribution of codes, or no prior of them was learned."""
    model: Any = open_model(folder, str(device))
    if isinstance(model, VariationalAutoencoder):
        return ArraySampler(model.codes, model.decode, device)
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
    if (prior.config.size, prior.config.places) != (model.size, math.prod(model.code_shape())):
        raise UserError(f"{folder}: its prior is of codes that the model does not have; learn one with it.")
    return ArraySampler(prior.sample, lambda codes: decoded(model, codes), device)


@dataclass(frozen=True)
class ArrayEncoder:
    """The codes of an auto-encoder: [R, D], or of a grid [R, places, D]. Rows have `input` [R, *shape]."""

    model: Autoencoder
    device: torch.device
    longest: ClassVar[None] = None

    @property
    def takes(self) -> tuple[int, ...]:
        return tuple(self.model.shape)

    def encode(self, rows: Rows) -> Features:
        values = scaled(np.asarray(rows["input"]))

        def codes(index: np.ndarray) -> Tensor:
            code = self.model.encode(torch.from_numpy(np.ascontiguousarray(values[index])).to(self.device))
            return code.flatten(2).transpose(1, 2) if code.ndim == 4 else code.flatten(1)

        return Features(np.concatenate(in_batches(np.arange(len(values)), codes)))


@dataclass(frozen=True)
class ArraySampler:
    """Codes are drawn all at once and decoded on the device, SAMPLES at a time. Rows have `input` [n, *shape]."""

    draw: Callable[[int, torch.Generator], Tensor]
    decode: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, given: Rows | None = None) -> Rows:
        if given is not None:
            raise ValueError("this network takes no rows to continue from; leave out `given`")
        codes = self.draw(n, generator)
        examples = [self.decode(chunk.to(self.device)).float().cpu() for chunk in codes.split(SAMPLES)]
        return {"input": torch.cat(examples).numpy()}


def decoded(model: DiscreteAutoencoder, codes: Tensor) -> Tensor:
    """The reconstructions [B, *shape] from codes [B, P]."""
    return model.decode(model.from_indices(codes.view(len(codes), *model.code_shape())))
