"""How far training moved the weights, by part of the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

EMBEDDINGS, OTHERS = "embeddings", "heads and others"


class Moved(NamedTuple):
    """Of a part: its number of parameters, and ‖θ − θ₀‖ / ‖θ₀‖ (None where θ₀ is 0)."""

    parameters: int
    change: float | None


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Moved]:
    """By part, of networks of one shape, by name: before training and after it."""
    import torch

    sums: dict[str, list[float]] = {}
    several = len(after) > 1
    for name, network in after.items():
        tables = {
            f"{place}.weight" for place, module in network.named_modules() if isinstance(module, torch.nn.Embedding)
        }
        first = dict(before[name].named_parameters())
        for place, parameter in network.named_parameters():
            start = first[place].detach().double().cpu()
            change = parameter.detach().double().cpu() - start
            part = EMBEDDINGS if place in tables else _layer(place)
            part = f"{name}: {part}" if several else part
            own = parameter.numel(), float(change.square().sum()), float(start.square().sum())
            sums[part] = [total + value for total, value in zip(sums.get(part, [0, 0.0, 0.0]), own, strict=True)]
    return {
        part: Moved(int(count), (change / start) ** 0.5 if start else None)
        for part, (count, change, start) in sums.items()
    }


def _layer(place: str) -> str:
    """The name of a parameter up to the first number in it, which counts layers."""
    numbered = re.match(r"(?:.*?\.)?(\w+)\.(\d+)\.", place)
    if numbered is None:
        return OTHERS
    stack = next((word for word in place.split(".") if word in ("encoder", "decoder")), "")
    return f"{stack} layer {int(numbered[2]) + 1}".strip()
