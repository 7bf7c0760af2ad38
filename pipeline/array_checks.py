"""What the sections of a recipe for tables or pictures must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_prep.corruptions.warp import AugmentConfig
from data_prep.images.pixels import ImagesConfig
from data_prep.tables.schema import TableConfig
from data_prep.tables.transform import TransformConfig
from pipeline.recipe import checks
from pipeline.recipe.checks import Problem
from training.config import TEXT_OBJECTIVES

if TYPE_CHECKING:
    from pipeline.array_recipe import ArrayRecipe
    from pipeline.recipe.jobs.autoencoders import AnomalyConfig


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
    yield from _jobs(recipe)
    yield from checks.placement(recipe)


OBJECTIVES = {"restoration": "autoencoder", "generation": "vae", "discrete": "discrete", "curves": "rbm"}
OF_PICTURES = ("restoration",)
MOST_TRIMMED = 0.5  # of the rows


def _jobs(recipe: ArrayRecipe) -> Iterator[Problem]:
    """What a job needs of the rest."""
    for index, job in enumerate(recipe.downstream):
        wanted = OBJECTIVES.get(job.task, recipe.objective.name)
        if recipe.objective.name != wanted:
            yield "objective.name", f"{job.task} is of {wanted}, found {recipe.objective.name}; leave out {job.name!r}"
        if job.task in OF_PICTURES and recipe.data.kind != "images":
            yield f"downstream.{index}.task", f"{job.task} is of pictures, and data.kind is {recipe.data.kind}"
        if job.task == "restoration" and recipe.corruption.kind == "none":
            yield "corruption.kind", "restoration needs noise; choose gaussian, masking or salt-and-pepper"
        if job.task == "anomaly":
            yield from _detectors(recipe, index, job)


def _detectors(recipe: ArrayRecipe, index: int, job: AnomalyConfig) -> Iterator[Problem]:
    """What the detectors of a job need of their losses and of labels, and marked anomalies of their kinds."""
    data = recipe.data
    packages = any(source.package for source in data.sources)  # which may tell it themselves
    told = data.table.normal or data.table.layout or packages if data.kind == "table" else job.normal or data.normal
    if not told:
        where = "data.table.target and data.table.normal" if data.kind == "table" else "data.normal"
        yield f"downstream.{index}.task", f"anomaly needs labels that tell what is normal; set {where}"
    if job.known_kinds and not job.marked:
        yield f"downstream.{index}.known_kinds", "is of marked anomalies, and none are; set marked, or leave it out"
    names = [detector.name for detector in job.detectors]
    for place, detector in enumerate(job.detectors):
        where = f"downstream.{index}.detectors.{place}"
        if detector.name in names[:place]:
            yield f"{where}.name", f"two detectors are called {detector.name!r}; rename one"
        loss = (detector.objective or recipe.objective).name
        if detector.trim * job.contamination > MOST_TRIMMED:
            most = MOST_TRIMMED / job.contamination
            yield f"{where}.trim", f"leaves out more than {MOST_TRIMMED:.0%} of the rows; choose at most {most:.3g}"
        if detector.score == "likelihood" and loss != "vae":
            yield f"{where}.score", f"likelihood is of objective vae, found {loss}; choose standardised-error"


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
    if recipe.corruption.at == "shards":
        yield "corruption.at", "shards is for text; noise is added as rows are read: leave it out"
    for name in ("weights", "epochs"):
        if getattr(recipe.order, name):
            yield f"order.{name}", "mixes corpora of text; leave it out"
