"""What `sesame plan` says of the packaged recipes before anything was made."""

from __future__ import annotations

import pytest

from data_prep.kinds import kind_of
from pipeline.recipe.load import load_pretraining
from tests.pipeline import packaged
from training.cost.counted import price

RECIPES = {recipe.objective.name: recipe for recipe in map(load_pretraining, packaged.pretraining())}  # one of each


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
