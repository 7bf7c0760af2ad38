"""What training on tables or pictures costs: counted on the network itself, in a step on rows of nothing.

Networks of arrays are of many kinds and small beside language models, so no formula is kept for them: the tensors that
a forward and a backward pass have at once are counted as PyTorch makes and frees them. That is what a GPU's allocator
is asked for; on the CPU, kernels have buffers of their own, and a worker is tried instead
(`training.cost.step_benchmark`).
"""

from __future__ import annotations

import gc
import math
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data_prep.facts import DataFacts
from data_prep.rng import Draws
from training.config import NetworkConfig, ObjectiveConfig
from training.objective import Objective, loss_of
from training.objectives import build

VALUES = 1 << 20  # most that rows of a counted step have: more of them take proportionally more


@dataclass(frozen=True)
class ArrayCost:
    """Of a network and of one worker's micro-batch."""

    parameters: int
    row_flops: float  # of forward and backward passes; 0: not known
    activations: float  # bytes that both passes have at once, beside weights and their gradients


def array_cost(
    objective: ObjectiveConfig, network: NetworkConfig, shape: tuple[int, ...], rows: int, precision: str
) -> ArrayCost:
    """Of examples of this shape, so many at once. Raises UserError where network and shape do not fit."""
    data = DataFacts("images" if len(shape) == 3 else "table", ("input",), shape)
    with torch.random.fork_rng(devices=[]):
        built = build(objective, {"model": network}, data, "cpu")
        parameters = [p for module in _players(built).values() for p in module.parameters()]
        tried = max(1, min(rows, VALUES // math.prod(shape)))
        small = max(1, tried // 2)
        most = _peak(built, tried, precision)
        by_row = (most - _peak(built, small, precision)) / (tried - small) if tried > small else most
        row_flops = built.flops(built.collate(built.example(1)))
    unique = {id(p): p.numel() for p in parameters}
    return ArrayCost(
        parameters=sum(unique.values()),
        row_flops=row_flops,
        activations=max(most + by_row * (rows - tried), 0.0),
    )


def _players(objective: Objective) -> dict[str, torch.nn.Module]:
    return {name: module.train() for name, module in objective.networks().items()}


def _peak(objective: Objective, rows: int, precision: str) -> float:
    """Bytes beside gradients at their most, in the costliest phase."""
    players, most = _players(objective), 0.0
    batch = objective.collate(objective.example(rows))
    with torch.no_grad():
        batch = objective.prepare(players, batch, Draws(0, 0, np.arange(rows)))
    for phase in objective.phases(1000):
        for turn in objective.turns(phase.name, 0):
            live = _Live()
            cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
            with live:
                with cast:
                    paid = sum(loss_of(turn, players, batch).sums.values())
                paid.backward()  # type: ignore[union-attr]
            del paid
            kept = 0
            for module in players.values():
                kept += sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)
                module.zero_grad(set_to_none=True)
            most = max(most, live.peak - kept)
    return most


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside, until each is freed; `peak` is the most of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        gc.collect()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage(), given)
        return found

    def _see(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        if storage in self._seen or id(storage) in given:  # a view, or a result in place
            return
        size = storage.nbytes()
        self._seen.add(storage)
        weakref.finalize(storage, self._freed, size)
        self._now += size
        self.peak = max(self.peak, self._now)

    def _freed(self, size: int) -> None:
        self._now -= size
