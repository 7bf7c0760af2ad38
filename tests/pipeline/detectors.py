"""A detector of rows with five numbers and a colour, made in a second."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from data_prep.corpus.schema import TableSchema
from data_prep.tables.transform.transform import Transform
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.scoring.row_detector import RowDetector
from training.config import NetworkConfig
from training.inference.anomaly import STANDARDISED, Scorer, Usual
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.config import network_config
from training.objectives.arrays.autoencoder import AutoencoderOptions

COLUMNS = ("a", "b", "c", "d", "e")
COLOURS = np.array(["red", "green"])


def rows(count: int, seed: int = 0, moved: float = 0.0) -> pa.RecordBatch:
    """Numbers on a plane, all of them moved by as much, and a colour."""
    random = np.random.default_rng(seed)
    plane = np.random.default_rng(99).normal(size=(2, 5))
    values = random.normal(size=(count, 2)) @ plane + 0.05 * random.normal(size=(count, 5)) + moved
    arrays = [pa.array(column) for column in values.T]
    return pa.record_batch([*arrays, pa.array(COLOURS[random.integers(0, 2, count)])], names=[*COLUMNS, "colour"])


def csv_lines(batch: pa.RecordBatch) -> list[str]:
    """The rows as lines of a CSV file, without its header."""
    return [",".join(str(value) for value in row.values()) + "\n" for row in batch.to_pylist()]


HEADER = ",".join([*COLUMNS, "colour"]) + "\n"


@lru_cache(1)
def detector() -> RowDetector:
    """A plane through the rows and a line for the colour, by least squares: the network is linear."""
    schema = TableSchema({**dict.fromkeys(COLUMNS, "numeric"), "colour": "categorical"})
    train, held_out = rows(400), rows(200, seed=1)
    transform = Transform.fit(lambda: [train], schema=schema)
    inputs, others = (transform.within(transform.apply(part)) for part in (train, held_out))
    network = network_config(NetworkConfig(architecture="mlp", config={"bottleneck": 3}), inputs.shape[1:])
    model = Autoencoder(network, inputs.shape[1:], AutoencoderOptions())
    components = torch.from_numpy(np.linalg.svd(inputs - inputs.mean(0), full_matrices=False)[2][:3])
    mean = torch.from_numpy(inputs.mean(0))
    into, out = (
        next(m for m in part.modules() if isinstance(m, torch.nn.Linear)) for part in (model.encoder, model.decoder)
    )
    with torch.no_grad():
        into.weight.copy_(components)
        into.bias.copy_(-components @ mean)
        out.weight.copy_(components.T)
        out.bias.copy_(mean)
    scorer = Scorer.fit([model], inputs)
    normal = scorer.scores(others)[STANDARDISED]
    outside = transform.outside(held_out)
    usual = Usual.of((scorer.scores(inputs)[STANDARDISED], transform.outside(train)), (normal, outside))
    normal = usual.raised(normal, outside)
    columns = {SCORE: normal, **dict(zip(transform.features, others.T, strict=True))}
    threshold = float(np.quantile(normal, 0.99))
    return RowDetector(scorer, STANDARDISED, threshold, Baseline.of(columns), transform, usual=usual)


def saved(folder: Path) -> Path:
    detector().save(folder)
    return folder
