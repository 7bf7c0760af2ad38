"""What the sections of a recipe for tables or pictures must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_prep.images import ImagesConfig
from data_prep.tables import TableConfig
from data_prep.transform import TransformConfig
from pipeline import recipe_checks
from pipeline.recipe_checks import Problem

if TYPE_CHECKING:
    from pipeline.array_recipe import ArrayRecipe


def problems(recipe: ArrayRecipe) -> Iterator[Problem]:
    """Every disagreement, in the order of the sections."""
    yield from _data(recipe)
    if recipe.train.longer:
        yield "train.longer", "is for text, whose rows have lengths; leave it out"
    else:
        yield from recipe_checks.train(recipe)
    yield from recipe_checks.names(recipe.downstream)
    yield from recipe_checks.placement(recipe)


def _data(recipe: ArrayRecipe) -> Iterator[Problem]:
    data = recipe.data
    others = {"table": data.table != TableConfig(), "transform": data.transform != TransformConfig()}
    if data.kind == "table":
        others = {"images": data.images != ImagesConfig()}
    for name, given in others.items():
        if given:
            yield f"data.{name}", f"does not belong to data.kind {data.kind}; leave it out"
    for name in ("weights", "epochs"):
        if getattr(recipe.order, name):
            yield f"order.{name}", "mixes corpora of text; leave it out"
