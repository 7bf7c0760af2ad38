"""The settings that training depends on, as plain values: for its key, and for jobs that train networks."""

from __future__ import annotations

from typing import Any

from data_prep.settings import identity
from training.hardware import resolve_precision
from training.objectives import module_of

SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")


def training_settings(recipe: Any) -> dict[str, Any]:
    """All settings that change the result of training, without default sections; the precision is resolved."""
    sections = {name: identity(getattr(recipe, name)) for name in SECTIONS}
    sections["train"]["precision"] = resolve_precision(recipe.train.precision, recipe.placement.device)
    sections["networks"] = {name: identity(network) for name, network in recipe.networks.items()}
    settings = {name: section for name, section in sections.items() if section}
    versions = {"objective": module_of(recipe.objective.name).VERSION, "corruption": recipe.corruption.VERSION}
    return {
        "name": recipe.name,
        "kind": recipe.data.kind,
        **settings,
        **{f"{section}_version": version for section, version in versions.items() if version > 1},
        "seed": recipe.seed,
    }
