"""A recipe for tables and pictures: the same sections as for text, but for what only text has.

    sources ─► typed rows or pixels, split ─► shards (a table's columns made numbers) ─► pretraining ─► jobs ─► report

`pipeline.recipe.recipe.load` makes one where a file says `data.kind: table` or `images`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_prep.corpus.documents import SplitConfig
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.warp import AugmentConfig
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.config import SourceConfig
from data_prep.tables.schema import TableConfig
from data_prep.tables.transform import TransformConfig
from pipeline import array_checks
from pipeline.experiment import Experiment
from pipeline.recipe import errors
from pipeline.recipe.jobs.autoencoders import ArrayCorruption, ArrayJob
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, Settings, TrainConfig

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class ArrayData(Settings):
    """Where rows come from, what they mean, and which are held out."""

    kind: Literal["table", "images"] = Field(description="What the sources hold.")
    sources: list[SourceConfig] = Field(min_length=1, description="Packages, files or folders.")
    table: TableConfig = Field(default_factory=TableConfig, description="What the columns of a table mean.")
    images: ImagesConfig = Field(default_factory=ImagesConfig, description="What pictures are made into.")
    transform: TransformConfig = Field(
        default_factory=TransformConfig, description="How the columns of a table become numbers."
    )
    train_on: Literal["all", "normal"] = Field(
        default="all",
        description="normal: no anomaly is trained on, where labels tell (`data.table.normal`, of pictures `normal`).",
    )
    normal: list[str] = Field(default_factory=list, description="Labels of normal pictures; others are anomalies.")
    max_rejects: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="Bad rows tolerated: a whole number counts them, a fraction is their share."
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="Rows held out.")


class ArrayRecipe(Experiment):
    """A whole experiment on tables or pictures."""

    name: str = Field(pattern=SLUG, description="Short name; a packaged recipe's file name.")
    title: str = Field(default="", description="One line for a list of recipes.")
    reproduces: str = Field(default="", description="The paper or system it follows.")
    scale: str | None = Field(default=None, description="Which scale was chosen.")
    data: ArrayData = Field(description="Rows to learn from.")
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="How training pictures are changed before they are used."
    )
    corruption: ArrayCorruption = Field(default_factory=NoneConfig, description="Noise on what the network sees.")
    order: OrderConfig = Field(default_factory=OrderConfig, description="The order of samples.")
    network: NetworkConfig = Field(description="What is trained.")
    objective: ObjectiveConfig = Field(description="The loss.")
    train: TrainConfig = Field(description="Budget, optimizer and rhythm.")
    downstream: list[ArrayJob] = Field(default_factory=list, description="Jobs after it.")
    seed: int = Field(default=0, ge=0, description="Of everything random in the experiment.")
    placement: PlacementConfig = Field(
        default_factory=PlacementConfig, description="Where and how fast; never changes the result."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ArrayRecipe:
        problems = list(array_checks.problems(self))
        if problems:
            raise errors.InconsistentError(problems)
        return self
