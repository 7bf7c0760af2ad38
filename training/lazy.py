"""torch, bound on first use: what imports it from here can be read where no framework may be loaded.

    from training.lazy import F, torch

Modules that define networks (`training.models`) import torch itself: their classes need it as they are defined.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


class LazyModule:
    """A module that is imported when one of its attributes is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


if TYPE_CHECKING:
    import torch as torch
    import torch.distributed as dist
    from torch.nn import functional as F
else:
    torch = LazyModule("torch")
    dist = LazyModule("torch.distributed")
    F = LazyModule("torch.nn.functional")

__all__ = ["F", "LazyModule", "dist", "torch"]
