"""Rate and distortion of a learned codec; see `training.models.autoencoders.compression`. Both are in bits per pixel.

The export can be used as a codec (`training.inference.codec`): integer tables are stored with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.facts import DataFacts
from data_prep.settings import Settings
from training.config import NetworkConfig
from training.models.autoencoders.config import network_config, network_problems
from training.objective import Batch
from training.objectives.arrays.base import ArrayObjective, encoder_settings, transform_of

if TYPE_CHECKING:
    from training.models.autoencoders.compression import CompressiveAutoencoder

VERSION = 1


class CompressionOptions(Settings):
    """`objective.options` of `compression`."""

    distortion_weight: float = Field(default=0.01, gt=0)
    """λ: bits per pixel that a mean squared error of 1 costs, for values in 0 … 255."""
    classes: int = Field(default=12, ge=1, le=64)
    """Maximum number of classes of places, from quiet to busy, with distributions of their own for coding a channel."""


Options = CompressionOptions


def check(options: CompressionOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from network_problems(networks["model"])
    settings = encoder_settings(networks)
    if settings.get("latent") != "grid":
        yield "network.config.latent", "compression takes images of any size; set it to grid"
    if settings.get("output", "linear") != "linear":
        yield "network.config.output", "compression rebuilds linearly; set it to linear"


class Compression(ArrayObjective):
    """Terms by pixel and by value; rounding errors of the tables are not in the rate."""

    model: CompressiveAutoencoder

    export_rows = 2048  # by which classes of places are fitted

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        from training.codec.tables import Tables

        super().export(path, batches)
        Tables.fitted(self.model, (batch["input"] for batch in batches)).save(path)


def build(
    options: CompressionOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
) -> Compression:
    """The objective for images of the data's shape; the exported codec takes images of any size."""
    from training.models.autoencoders.compression import CompressiveAutoencoder

    model = CompressiveAutoencoder(network_config(networks["model"], data.shape), data.shape, options)
    pixels, values = float(data.shape[1] * data.shape[2]), float(model.values)
    metrics = {"squared-error": values}
    return Compression(model, {"rate": pixels, "distortion": values}, metrics, transform_of(data))
