"""New examples from the folder of a network, for networks that can be sampled from.

open_sampler(folder).sample(n, generator)  ─►  rows
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch

from data_prep.errors import UserError
from data_prep.shards.rows import Rows
from training.inference.networks import NETWORKS
from training.inference.opening import network_kind


class Sampler(Protocol):
    """A trained network that gives new examples."""

    def sample(self, n: int, generator: torch.Generator, given: Rows | None = None) -> Rows:
        """n rows drawn by `generator`, a CPU one. given: rows to continue from, for networks that take some."""
        ...


def open_sampler(folder: Path, device: str = "cpu") -> Sampler:
    """The sampler of a folder that training wrote. Raises UserError where its network cannot be sampled from."""
    kind = network_kind(folder)
    samplers = {
        name: opener
        for name, module in NETWORKS.items()
        if (opener := getattr(import_module(module), "open_sampler", None))
    }
    if kind not in samplers:
        raise UserError(f"{folder}: networks of kind {kind} give no samples; those of kind {', '.join(samplers)} do.")
    sampler: Sampler = samplers[kind](folder, torch.device(device))
    return sampler
