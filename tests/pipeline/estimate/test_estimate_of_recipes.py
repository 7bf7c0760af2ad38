"""What `sesame plan` says of the packaged recipes before anything was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.kinds import kind_of
from pipeline import recipes
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from training.cost.counted import price

NAMES = sorted(path.stem for path in Path(recipes.__file__).parent.glob("*.yaml"))
RECIPES = {  # one of each objective
    recipe.objective.name: recipe for recipe in map(load, NAMES) if isinstance(recipe, Recipe)
}


@pytest.mark.parametrize("objective", RECIPES)
def test_every_objective_is_priced_by_its_example(objective: str) -> None:
    recipe = RECIPES[objective]
    facts = kind_of(recipe.data.kind).expected(recipe)
    if facts is None:
        sized = recipe.data.kind == "images" and (recipe.data.images.size or recipe.data.images.patch)
        assert recipe.data.kind in ("table", "images") and not sized, "only what has no size yet has no price"
        return
    cost = price(recipe.objective, {"model": recipe.network}, facts, recipe.corruption, 4, "bf16", "cpu")
    assert cost.parameters > 1000 and cost.row_flops > 1000 and cost.row_units >= 1
