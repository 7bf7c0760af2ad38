"""Opens exported networks: from files alone, without running code from them, weights from safetensors."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from data_prep.errors import UserError
from training.config import Settings
from training.models import frame_network
from training.models.autoencoders.autoencoder import CONFIG, FORMAT, KINDS, WEIGHTS, Autoencoder
from training.models.autoencoders.config import AutoencoderConfig
from training.models.text.folder import open_config, open_pretrained
from training.objectives import OBJECTIVES, module_of
from training.options import checked


def network_kind(folder: Path) -> str:
    """The kind of a folder's network: `array` (an auto-encoder), `frames` (an encoder of frames) or `text` (one of
    `transformers`). Raises UserError where it is none of these."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: holds no network ({error}); name a folder that training wrote.") from None
    if isinstance(config, dict) and "model_type" in config:
        return "text"
    if isinstance(config, dict) and config.get("kind") == "frames":
        return "frames"
    if isinstance(config, dict) and "kind" in config:
        return "array"
    raise UserError(f"{folder / CONFIG}: describes no network; name a folder that training wrote.")


def open_network(folder: Path) -> Any:
    """All of a folder's network, heads included, on the CPU and in evaluation mode. UserError where it holds none."""
    kind = network_kind(folder)
    if kind == "array":
        return open_model(folder)
    if kind == "frames":
        return frame_network.open_network(folder)
    return open_pretrained(folder, open_config(folder).architectures[0])


def check_export(folder: Path, network: nn.Module) -> None:
    """Open what was exported and compare it, weight by weight; RuntimeError where it is another network."""
    reopened = open_network(folder).state_dict()
    weights = network.state_dict()
    if set(reopened) != set(weights):
        names = ", ".join(sorted(set(reopened) ^ set(weights))[:3])
        raise RuntimeError(f"{folder}: what was exported opens with other weights than were trained: {names}")
    for name, trained in weights.items():
        if not torch.equal(reopened[name], trained.detach().cpu().to(reopened[name].dtype)):
            raise RuntimeError(f"{folder}: what was exported opens with other values of {name} than were trained")


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
