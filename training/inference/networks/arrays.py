"""Auto-encoders and other networks of arrays (`training.models.autoencoders`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.shards.rows import Rows
from training.config import Settings
from training.inference.encoding import Features, in_batches
from training.models.autoencoders.autoencoder import CONFIG, FORMAT, KINDS, WEIGHTS, Autoencoder
from training.models.autoencoders.code_prior import open_prior
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.vae import VariationalAutoencoder
from training.models.autoencoders.vq import DiscreteAutoencoder
from training.objectives import OBJECTIVES, module_of
from training.options import checked

SAMPLES = 256  # decoded at once


def describes(config: Mapping[str, Any]) -> bool:
    return str(config.get("kind")) in KINDS


def open_network(folder: Path) -> Any:
    return open_model(folder)


def open_model(folder: Path, device: str = "cpu") -> Any:
    """The model of a folder (`Autoencoder` or a subclass of it), in evaluation mode, for use and not for training.

    Raises UserError where the folder holds no such model.
    """
    try:
        description = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: holds no model of an auto-encoder: {CONFIG}: {error}.") from None
    if not isinstance(description, dict) or description.get("kind") not in KINDS or description.get("format") != FORMAT:
        raise UserError(
            f"{folder / CONFIG}: not what describes an auto-encoder of format {FORMAT}; train one with Sesame."
        )
    module, _, name = KINDS[description["kind"]].partition(":")
    kind: type[Autoencoder] = getattr(import_module(module), name)
    config = checked(AutoencoderConfig, description["network"], f"{folder / CONFIG}: network")
    settings = module_of(description["kind"]).Options if description["kind"] in OBJECTIVES else Settings
    options = checked(settings, description["options"], f"{folder / CONFIG}: options")
    with torch.random.fork_rng(devices=[]):  # its random weights are replaced
        model = kind(config, tuple(description["shape"]), options)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS}: not the weights that {CONFIG} asks for: {str(error)[:200]}") from error
    return model.to(device).eval().requires_grad_(False)


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
    return ArraySampler(prior.sample, lambda codes: decoded(model, codes), device)


@dataclass(frozen=True)
class ArrayEncoder:
    """The codes of an auto-encoder: [R, D], or of a grid [R, places, D]. Rows have `input` [R, *shape]."""

    model: Autoencoder
    device: torch.device

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
