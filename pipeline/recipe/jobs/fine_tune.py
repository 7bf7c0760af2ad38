"""Settings of fine-tuning with few labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_prep.labelled.files import LabelledConfig
from pipeline.recipe.slug import SLUG
from training.config import Settings


class DownstreamConfig(Settings):
    """A job that shows what pretraining was good for: fine-tune with few labels, beside baselines."""

    name: str = Field(pattern=SLUG, description="Names the job in reports and keys.")
    task: Literal["classification", "tagging"] = Field(description="One label per row, or per word.")
    data: LabelledConfig = Field(description="The labelled examples.")
    labels: list[int] = Field(min_length=1, description="Numbers of labelled training examples.")
    seeds: int = Field(default=1, ge=1, description="Repetitions with other examples and weights.")
    steps: int = Field(ge=1, description="Optimizer steps of each fine-tuning.")
    batch: int = Field(ge=1, description="Rows per step.")
    length: int = Field(ge=4, description="Most tokens of a row, specials included.")
    length_window: int | None = Field(
        default=None,
        ge=2,
        description="Batches drawn together and regrouped by length, so that little is padding; null: as drawn.",
    )
    pooling: Literal["cls", "mean"] = Field(
        default="cls", description="What a row is classified by: its [CLS], or the mean over its tokens."
    )
    lrs: list[float] = Field(min_length=1, description="Peak learning rates tried from pretrained weights.")
    scratch_lrs: list[float] = Field(
        default_factory=list, description="Rates tried from random weights; empty: those of lrs."
    )
    validation_rows: int = Field(ge=1, description="Rows that choose settings.")
    test_rows: int = Field(ge=1, description="Rows that are reported.")
    baselines: list[str] = Field(default_factory=list, description="Methods without a network.")
    models: list[str] = Field(
        default=["pretrained", "scratch"],
        min_length=1,
        description="pretrained, scratch, or a folder that transformers opens.",
    )
