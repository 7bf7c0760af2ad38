"""Wrappers of any network: the precision of its forward pass, and which activations it keeps."""

from __future__ import annotations

import torch
from torch import nn

from data_prep.errors import UserError


def autocast_forward(module: nn.Module, device: torch.device, precision: str) -> None:
    """Run the module's forward under bf16 autocast; parameters and optimizer stay in fp32.

    Inside the module and not around the engine: DeepSpeed switches off an autocast that surrounds it.
    """
    if precision == "bf16":
        module.forward = torch.autocast(device.type, torch.bfloat16)(module.forward)  # type: ignore[method-assign]


def checkpoint_activations(module: nn.Module) -> None:
    """Keep only each layer's input for the backward pass and compute the rest again (Chen et al. 2016)."""
    from transformers import PreTrainedModel

    models = [submodule for submodule in module.modules() if isinstance(submodule, PreTrainedModel)]
    if not models:
        raise UserError(
            f"placement.activation_checkpointing: {type(module).__name__} has no layers that transformers can "
            "recompute; set it to false."
        )
    for model in models:
        model.activation_checkpointing_enable({"use_reentrant": False})
