"""Packaged recipes by what they do."""

from __future__ import annotations

from pipeline.recipe.load import read, recipes
from pipeline.recipe.recipe import Recipe, model_of


def pretraining() -> list[str]:
    """Names of the recipes that pretrain a network; the others evaluate one that exists."""
    return [listing.name for listing in recipes() if model_of(read(listing.name)[0]) is Recipe]
