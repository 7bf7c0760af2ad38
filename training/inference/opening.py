"""Opens exported networks: from files alone, without running code from them, weights from safetensors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, read_json
from training.inference.networks import NETWORKS

CONFIG = "config.json"


def network_kind(folder: Path) -> str:
    """The kind of a folder's network, a key of `NETWORKS`. Raises UserError where it holds none."""
    try:
        config = read_json(checked(folder) / CONFIG)
    except UnfitError as error:
        raise UserError(f"{folder / CONFIG}: holds no network ({error}); name a folder that training wrote.") from None
    for kind, module in NETWORKS.items():
        if import_module(module).describes(config):
            return kind
    raise UserError(f"{folder / CONFIG}: describes no network; name a folder that training wrote.")


def module_of(folder: Path) -> Any:
    """The module for a folder's kind of network. Raises UserError where it holds none."""
    return import_module(NETWORKS[network_kind(folder)])


def is_served(folder: Path) -> bool:
    """Whether a folder's network is opened by a library of others, too, and can serve without this project."""
    return hasattr(module_of(folder), "check_use")


def open_network(folder: Path) -> Any:
    """All of a folder's network, heads included, on the CPU and in evaluation mode. UserError where it holds none."""
    return module_of(folder).open_network(folder)


def check_export(folder: Path, network: nn.Module) -> None:
    """Open what was exported, compare it weight by weight, and use it as its kind of network is used elsewhere.

    RuntimeError where it is another network, or cannot be used.
    """
    opened = open_network(folder)
    reopened = opened.state_dict()
    weights = network.state_dict()
    if set(reopened) != set(weights):
        names = ", ".join(sorted(set(reopened) ^ set(weights))[:3])
        raise RuntimeError(f"{folder}: what was exported opens with other weights than were trained: {names}")
    for name, trained in weights.items():
        if not torch.equal(reopened[name], trained.detach().cpu().to(reopened[name].dtype)):
            raise RuntimeError(f"{folder}: what was exported opens with other values of {name} than were trained")
    module = module_of(folder)
    if hasattr(module, "check_use"):
        module.check_use(folder, opened)
