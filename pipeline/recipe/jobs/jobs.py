"""All downstream jobs that a recipe may name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.recipe.jobs import autoencoders
from pipeline.recipe.jobs.document_anomaly import DocumentAnomalyConfig
from pipeline.recipe.jobs.fine_tune import DownstreamConfig


def config_union() -> Any:
    """The type of an entry of a recipe's `downstream`, told apart by `task`."""
    return Annotated[
        DownstreamConfig
        | DocumentAnomalyConfig
        | autoencoders.CodesConfig
        | autoencoders.RestorationConfig
        | autoencoders.GenerationConfig
        | autoencoders.DiscreteConfig
        | autoencoders.CurvesConfig
        | autoencoders.AnomalyConfig
        | autoencoders.CompressionConfig,
        Field(discriminator="task"),
    ]
