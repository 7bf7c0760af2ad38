"""A text is learned from its source as the library has it, padding changes nothing, and it is written then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.shards.rows import Ragged, Rows, ragged, take
from tests.training.inference import writers
from training.config import OrderConfig, PlacementConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.inference.networks.text import TrainableWriter, open_writer
from training.loop import Training
from training.objectives.writing import Writing

SOURCES = [[20, 30, 40], [21, 31, 41, 51, 61, 71, 81, 91, 101, 111], [22, 32]]
TARGETS = [[60, 70, 2], [80, 90, 100, 110, 2], [2]]
ROWS: Rows = {"input": Ragged.from_rows(SOURCES, np.uint32), "target_tokens": Ragged.from_rows(TARGETS, np.uint32)}


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainableWriter:
    return open_writer(writers.write(tmp_path_factory.mktemp(request.param), request.param, spread=0.02))


def loss(objective: Writing, rows: Rows) -> float:
    (turn,) = objective.turns("train", 0)
    batch = objective.collate(rows)
    objective.network.eval()
    with torch.no_grad():
        return float(turn.loss({"model": objective.network}, batch).sums["lm"])  # type: ignore[arg-type]


def train(objective: Writing, steps: int) -> None:
    stream = Stream([Corpus("pairs", MemoryTable(ROWS, 3))], 0, OrderConfig(block=1, window=64))
    config = TrainConfig(global_batch=3, steps=steps, lr=1e-2, warmup_steps=5, precision="fp32", log_every=steps)
    Training(objective, stream, config, placement=PlacementConfig(), worker=Worker(), seed=1).run()


def test_the_loss_is_that_of_the_library(writer: TrainableWriter) -> None:
    """Labels of −100 are not learned from: the source of a decoder."""
    objective, total = Writing(writer, 8), 0.0
    model: Any = writer.network
    for source, target in zip(SOURCES, TARGETS, strict=True):
        if writer.architecture.encoder_decoder:
            given, labels = source, target
        else:
            given, labels = [*source, *target], [-100] * len(source) + target
        mean = model(input_ids=torch.tensor([given]), labels=torch.tensor([labels])).loss
        total += float(mean.detach()) * len(target)
    assert loss(objective, ROWS) == pytest.approx(total, rel=1e-5)


def test_a_row_is_learned_alone_as_beside_longer_ones(writer: TrainableWriter) -> None:
    objective = Writing(writer, 8)
    alone = [loss(objective, take(ROWS, np.array([row]))) for row in range(3)]
    assert sum(alone) == pytest.approx(loss(objective, ROWS), rel=1e-5) and len(set(alone)) == 3


def test_what_is_learned_is_written_and_saved(writer: TrainableWriter, tmp_path: Path) -> None:
    """Weights move, the loss falls, and the texts of training are written; the original stays as it was."""
    objective, before = Writing(writer.copied(), 8), loss(Writing(writer, 8), ROWS)
    train(objective, steps=60)
    assert loss(objective, ROWS) < 0.2 * before and loss(Writing(writer, 8), ROWS) == before
    written = objective.scores(ROWS)
    assert [written.row(row).tolist() for row in range(3)] == [target[:-1] for target in TARGETS]
    objective.encoder.save(tmp_path / "saved")
    opened = Writing(open_writer(tmp_path / "saved"), 8)
    assert loss(opened, ROWS) == pytest.approx(loss(objective, ROWS), rel=1e-4)
    assert ragged({"ids": opened.scores(ROWS)}, "ids").values.tolist() == written.values.tolist()


def test_random_weights_have_the_shape_and_nothing_else(writer: TrainableWriter) -> None:
    torch.manual_seed(0)
    first = writer.from_random_weights()
    torch.manual_seed(0)
    again = writer.from_random_weights()
    losses = [loss(Writing(each, 8), ROWS) for each in (first, again, writer)]
    assert losses[0] == losses[1] != losses[2]
    assert all(parameter.requires_grad for parameter in first.network.parameters())
