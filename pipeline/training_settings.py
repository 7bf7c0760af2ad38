"""What a training depends on, as plain values: part of its key, and what jobs train networks of their own with."""

from __future__ import annotations

from typing import Any

from data_prep.settings import identity
from training.hardware import resolve_precision

SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")


def training_settings(recipe: Any) -> dict[str, Any]:
    """Everything that changes what is learned, sections of defaults left out; the precision is made definite."""
    sections = {name: identity(getattr(recipe, name)) for name in SECTIONS}
    sections["train"]["precision"] = resolve_precision(recipe.train.precision, recipe.placement.device)
    settings = {name: section for name, section in sections.items() if section}
    return {"name": recipe.name, "kind": recipe.data.kind, **settings, "seed": recipe.seed}
