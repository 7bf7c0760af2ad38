"""What a training depends on, as plain values: part of its key, and what jobs train networks of their own with."""

from __future__ import annotations

from typing import Any

from data_prep.settings import identity
from training.hardware import resolve_precision

SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")


def training_settings(recipe: Any) -> dict[str, Any]:
    """Everything that changes what is learned; the precision made definite first, so that it is in the key."""
    settings = {name: identity(getattr(recipe, name)) for name in SECTIONS}
    settings["train"]["precision"] = resolve_precision(recipe.train.precision, recipe.placement.device)
    return {"name": recipe.name, "kind": recipe.data.kind, **settings, "seed": recipe.seed}
