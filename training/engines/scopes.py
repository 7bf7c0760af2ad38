"""States of networks around a pass: who learns, whose weights are whole, what is drawn, whether rows see each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from training.engines.plain import Engine


def batch_statistics(network: nn.Module) -> str | None:
    """The first part of a network whose output for a row depends, in training, on the other rows of the batch."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return next(
        (
            f"{type(submodule).__name__} {name}"
            for name, submodule in network.named_modules()
            if isinstance(submodule, kinds)
        ),
        None,
    )


@contextmanager
def others_frozen(modules: Sequence[nn.Module], player: nn.Module) -> Iterator[None]:
    """Inside, only the player's parameters require gradients; afterwards all are as they were."""
    player_ids = {id(parameter) for parameter in player.parameters()}
    others = [p for module in modules for p in module.parameters() if p.requires_grad and id(p) not in player_ids]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def random_state(device: torch.device) -> dict[str, Any]:
    """Of torch's generators of the CPU and of the device."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_state` gave: the same pass then draws the same numbers."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def all_whole(engines: Iterable[Engine]) -> Iterator[None]:
    """Inside, rank 0 sees every engine's parameters whole."""
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(engine.whole())
        yield
