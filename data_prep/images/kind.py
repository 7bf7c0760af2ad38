"""The kind `images`: uint8 pixels [C, H, W], with the name of the folder as the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from data_prep.array_kind import ArrayKind
from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.decide import ArrayDecision
from data_prep.corpus.draft import Draft
from data_prep.corpus.schema import classes_of
from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.images import units
from data_prep.images.pixels import ImagesConfig
from data_prep.kinds import DataConfig, Problem, Sections, Written
from data_prep.sources.config import Accepts
from data_prep.views import Image, Viewer


class ImagesData(DataConfig):
    """Sources, conversion and splits of images."""

    kind: Literal["images"]
    """Kind of data in the sources."""
    images: ImagesConfig = Field(default_factory=ImagesConfig)
    """How images become pixels."""
    train_on: Literal["all", "normal"] = "all"
    """normal: train only on images whose label is in `normal`."""
    normal: list[str] = Field(default_factory=list)
    """Labels of normal images; others are anomalies."""
    max_rejects: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] = 0.01
    """Maximum number (an integer) or share (a fraction) of bad images."""

    AFTER_INGEST: ClassVar = ("train_on", "normal")


class ImagesKind(ArrayKind):
    """See the module's docstring."""

    Data = ImagesData
    sections: ClassVar = {"augment": False}
    unit = "images"
    uniform = "of one colour"
    reader = units

    def problems(self, recipe: Sections) -> Iterator[Problem]:
        if recipe.data.train_on == "normal" and not recipe.data.normal:
            yield "data.train_on", "normal needs labels that are normal; set data.normal"

    def meaning(self, data: ImagesData) -> ImagesConfig:
        return data.images

    def about(self, agreed: dict[str, Any], labels: set[str]) -> dict[str, Any]:
        return {"kind": "images", "shape": agreed["shape"], "classes": classes_of(labels, None)}

    def summary(self, draft: Draft, decided: ArrayDecision, files: Written) -> dict[str, Any]:
        summary, lost = super().summary(draft, decided, files), draft.agreed["lost"]
        if not lost:
            return summary
        draft.progress("what images lost", None, warning=f"Not in the pixels: {_listed(lost)}.")
        return {**summary, "lost": lost}

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        described = super().describe(corpus, shards)
        return f"{described} Not in the pixels: {_listed(corpus['lost'])}." if "lost" in corpus else described

    def lacks_normal(self, data: ImagesData) -> str:
        is_known = data.normal or data.images.labels == "none"
        return "" if is_known else "set data.normal, or set data.images.labels: none"

    def accepts(self, data: ImagesData) -> Accepts:
        return units.accepts(data.images)

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        if recipe.data.train_on == "all":
            return {"train_on": "all"}
        return {"train_on": "normal", "normal": recipe.data.normal}

    def normal_classes(self, settings: dict[str, Any], corpus: dict[str, Any]) -> list[int] | None:
        if settings["train_on"] == "all":
            return None
        unknown = [name for name in settings["normal"] if name not in corpus["classes"]]
        if unknown:
            known_labels = ", ".join(corpus["classes"]) or "none; set data.images.labels"
            raise UserError(f"data.normal: no image has the label {unknown[0]!r}; there are {known_labels}.")
        return [corpus["classes"].index(name) for name in settings["normal"]]

    def inputs(self, batch: ArrayBatch, preprocessor: None) -> np.ndarray:
        return np.asarray(batch.input)

    def shape(self, corpus: ArrayCorpus, preprocessor: None) -> tuple[tuple[int, ...], int]:
        shape = corpus.shape or ()
        return shape, int(np.prod(shape))

    def viewer(self, preprocessor: Path | None) -> Viewer:
        return lambda pixels: Image(scaled(pixels))

    def raw_view(self, batch: ArrayBatch, row: int) -> Image:
        return Image(scaled(np.asarray(batch.input[row])))

    def expected(self, recipe: Sections) -> DataFacts | None:
        images = recipe.data.images
        side = images.patch or images.size
        return DataFacts(recipe.data.kind, ("input", "label"), (images.channels, side, side)) if side else None


def _listed(lost: Mapping[str, int]) -> str:
    """What images lost, each with the number of images."""
    return ", ".join(f"{what} of {count:,} image{'s' * (count > 1)}" for what, count in lost.items())


KIND = ImagesKind()
