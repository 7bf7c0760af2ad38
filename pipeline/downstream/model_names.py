"""What jobs call the networks that they ask or train: `models` of their settings, tables and numbers.

pretrained   the recipe's network            scratch   the same shape with random weights
frozen       its weights are kept (fine-tuning)
a name       one of an evaluation's `networks`
a folder     any that `transformers` can open, or of an encoder of frames for jobs on recordings; numbers call it by the
             last part of its path
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.downstream.config import Problem

PRETRAINED, SCRATCH, FROZEN = OWN = ("pretrained", "scratch", "frozen")
"""Models of the recipe's own network."""


def slug(model: str) -> str:
    """What numbers call a model."""
    return Path(model).name.replace(" ", "-")


def problems(models: Sequence[str], baselines: Sequence[str] = (), trains: bool = False) -> Iterator[Problem]:
    """Models of a job that does not train them (or does), and those that would have each other's numbers."""
    if FROZEN in models and not trains:
        yield ".models", f"{FROZEN!r} is of fine-tuning, and here no network learns; name {PRETRAINED} instead"
    names: dict[str, str] = {}
    for model in models:
        name = slug(model)
        if model in names.values():
            yield ".models", f"names {model!r} twice"
        elif name in names or (name in OWN and model != name):
            other = names.get(name, f"the recipe's own network, {name},")
            yield ".models", f"{other} and {model} are both called {name!r} in numbers; link it under another name"
        elif model in baselines:
            yield ".models", f"{model!r} is one of baselines, too; give that network another name"
        names.setdefault(name, model)
