"""Few bits and a small error; see `training.models.compression`. The rate is in bits per pixel, the distortion in the
same.

What is exported can be used as a codec (`training.codec.codec`): tables of whole numbers lie beside the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_prep.facts import DataFacts
from training.codec.tables import Tables
from training.config import NetworkConfig, ObjectiveConfig
from training.models.autoencoder import network_config
from training.models.compression import CompressionOptions, CompressiveAutoencoder
from training.objective import Batch
from training.objectives.arrays import ArrayObjective, transform_of
from training.options import checked


class Compression(ArrayObjective):
    """Terms by pixel and by value; rounding errors of the tables are not in the rate."""

    model: CompressiveAutoencoder

    export_rows = 2048  # of which classes of places are told

    def export(self, path: Path, seen: Iterable[Batch]) -> None:
        super().export(path, seen)
        Tables.fitted(self.model, (batch["input"] for batch in seen)).save(path)


def build(objective: ObjectiveConfig, network: NetworkConfig, data: DataFacts, device: str) -> Compression:
    """The objective for pictures of the shape that `data` has, and what is exported for pictures of any."""
    options = checked(CompressionOptions, objective.options, "objective.options")
    model = CompressiveAutoencoder(network_config(network, data.shape), data.shape, options)
    pixels, values = float(data.shape[1] * data.shape[2]), float(model.values)
    return Compression(model, {"rate": pixels, "distortion": values}, {"squared-error": values}, transform_of(data))
