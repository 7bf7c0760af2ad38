"""Experts that are divided among workers, as DeepSpeed's ZeRO 1 and 2 know them.

DeepSpeed calls a parameter an expert's by two attributes, sums its gradient and divides its optimizer's state over the
workers that have the same experts, and looks for a layer of its own class to know that there are any. Its layer routes
otherwise than Switch does (see `training.models.experts`), so it gets one without weights; the rest is DeepSpeed's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from data_prep.errors import UserError


def divide(module: Any, workers: int) -> None:
    """Divide a network's experts among each `workers` consecutive workers. UserError where that cannot be."""
    from deepspeed.moe.layer import MoE
    from deepspeed.utils import groups

    name = _name(workers)
    if not hasattr(module, "divide_experts"):
        raise UserError("placement.expert_parallel: the network has no experts to divide; set it to 1.")
    world = torch.distributed.get_world_size()
    if world % workers:
        raise UserError(f"placement.expert_parallel: {workers} does not divide {world} workers.")
    if name not in groups._get_expert_parallel_group_dict():
        groups._create_expert_and_data_parallel(workers)
    for parameter in module.divide_experts(groups._get_expert_parallel_group(name)):
        parameter.allreduce, parameter.group_name = False, name

    class Sign(MoE):
        """What DeepSpeed looks for."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.num_experts, self.ep_size, self.expert_group_name = workers, workers, name

        def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
            """The groups are made."""

    module.add_module("deepspeed_sign", Sign())


def with_groups_of_experts(optimizer: torch.optim.Optimizer, workers: int) -> torch.optim.Optimizer:
    """The optimizer with the parameters of divided experts in groups of their own, marked as DeepSpeed marks them."""
    for group in list(optimizer.param_groups):
        experts = [p for p in group["params"] if not getattr(p, "allreduce", True)]
        if experts:
            group["params"] = [p for p in group["params"] if getattr(p, "allreduce", True)]
            optimizer.add_param_group({**group, "params": experts, "moe": True, "name": _name(workers)})
    return optimizer


def _name(workers: int) -> str:
    """DeepSpeed's name of the groups among which experts are divided."""
    return f"ep_size_{workers}"
