"""What jobs need of the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_prep.kinds import Problem, kind_of
from pipeline.recipe.jobs.document_anomaly import NORMAL, REPLACED, SHUFFLED, DocumentAnomalyConfig, name_of

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe

OBJECTIVES = {"restoration": "autoencoder", "generation": "vae", "discrete": "discrete", "curves": "rbm"}
OF_PICTURES = ("restoration",)
OF_TEXT = ("classification", "tagging", "document-anomaly")
MOST_TRIMMED = 0.5  # of the rows


def problems(recipe: Recipe, index: int, job: Any) -> Iterator[Problem]:
    """Disagreements of the job at that place of `downstream` with other sections."""
    wanted = OBJECTIVES.get(job.task, recipe.objective.name)
    if recipe.objective.name != wanted:
        yield "objective.name", f"{job.task} is of {wanted}, found {recipe.objective.name}; leave out {job.name!r}"
    if job.task in OF_PICTURES and recipe.data.kind != "images":
        yield f"downstream.{index}.task", f"{job.task} is of images, and data.kind is {recipe.data.kind}"
    if (job.task in OF_TEXT) != (recipe.data.kind == "text"):
        yield f"downstream.{index}.task", f"{job.task} is not for data.kind {recipe.data.kind}"
    elif job.task == "document-anomaly":
        yield from _document_anomaly(recipe, index, job)
    elif job.task in OF_TEXT:
        positions = recipe.network.config.get("max_position_embeddings")
        own = {"pretrained", "scratch"} & set(job.models)
        if own and isinstance(positions, int) and positions < job.length:
            text = f"{job.length} exceeds network.config.max_position_embeddings {positions}"
            yield f"downstream.{index}.length", text
    if job.task == "restoration" and recipe.corruption.kind == "none":
        yield "corruption.kind", "restoration needs noise; choose gaussian, masking or salt-and-pepper"
    if job.task == "anomaly":
        yield from _detectors(recipe, index, job)


def _document_anomaly(recipe: Recipe, index: int, job: DocumentAnomalyConfig) -> Iterator[Problem]:
    """What scoring documents needs of the rest."""
    if recipe.objective.name != "masked-lm":
        yield "objective.name", f"{job.task} is of masked-lm, found {recipe.objective.name}; leave out {job.name!r}"
    for split, use in (("validation", "to draw thresholds by"), ("test", "to test on")):
        if getattr(recipe.data.split, split) == 0:
            yield f"data.split.{split}", f"{job.name!r} needs held-out documents {use}; set it above 0"
    others = [name_of(source) for source in job.others]
    for place, name in enumerate(others):
        if name in [NORMAL, SHUFFLED, REPLACED, *others[:place]]:
            yield f"downstream.{index}.others.{place}", f"another kind is called {name!r}, too; give it a corpus"
    positions = recipe.network.config.get("max_position_embeddings")
    if job.length is not None and isinstance(positions, int) and positions < job.length:
        text = f"{job.length} exceeds network.config.max_position_embeddings {positions}"
        yield f"downstream.{index}.length", text


def _detectors(recipe: Recipe, index: int, job: Any) -> Iterator[Problem]:
    """What the detectors of a job need of their losses and of labels, and marked anomalies of their kinds."""
    data = recipe.data
    if not kind_of(data.kind).tells_normal(data) and not job.normal:
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
