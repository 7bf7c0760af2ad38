"""What the sections of a recipe for tables or pictures must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_prep.corruptions.warp import AugmentConfig
from data_prep.images.pixels import ImagesConfig
from data_prep.tables.schema import TableConfig
from data_prep.tables.transform import TransformConfig
from pipeline import downstream
from pipeline.recipe import checks
from pipeline.recipe.checks import Problem
from training.config import TEXT_OBJECTIVES

if TYPE_CHECKING:
    from pipeline.array_recipe import ArrayRecipe


def problems(recipe: ArrayRecipe) -> Iterator[Problem]:
    """Every disagreement, in the order of the sections."""
    yield from _data(recipe)
    if recipe.train.longer:
        yield "train.longer", "is for text, whose rows have lengths; leave it out"
    else:
        yield from checks.train(recipe)
    if recipe.objective.name in TEXT_OBJECTIVES:
        yield "objective.name", f"{recipe.objective.name!r} learns from text, and data.kind is {recipe.data.kind}"
    yield from checks.names(recipe.downstream)
    yield from downstream.problems(recipe)
    yield from checks.placement(recipe)


def _data(recipe: ArrayRecipe) -> Iterator[Problem]:
    data = recipe.data
    others = {"table": data.table != TableConfig(), "transform": data.transform != TransformConfig()}
    if data.kind == "table":
        others = {"images": data.images != ImagesConfig()}
    for name, given in others.items():
        if given:
            yield f"data.{name}", f"does not belong to data.kind {data.kind}; leave it out"
    if data.kind == "table" and data.normal:
        yield "data.normal", "is of pictures, and data.kind is table; set data.table.normal instead"
    if data.kind == "images" and data.train_on == "normal" and not data.normal:
        yield "data.train_on", "normal needs labels that are normal; set data.normal"
    if data.kind == "table" and recipe.augment != AugmentConfig():
        yield "augment", "changes pictures, and data.kind is table; leave it out"
    for name in ("weights", "epochs"):
        if getattr(recipe.order, name):
            yield f"order.{name}", "mixes corpora of text; leave it out"
