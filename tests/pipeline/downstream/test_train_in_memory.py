"""What a job trains by: rows are spoilt by one stream, held-out ones by another, and only the former augmented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corruptions.warp import AugmentConfig
from data_prep.rng import key
from data_prep.shards.rows import Rows
from data_prep.shards.streams import CORRUPT, CORRUPT_HELD_OUT
from pipeline.downstream import train_in_memory
from pipeline.stage import Context
from training import loop

CONFIG: dict[str, Any] = {
    "kind": "images",
    "augment": {"translate": 3},
    "corruption": {"kind": "gaussian", "level": 0.5},
    "network": {"architecture": "mlp", "config": {"hidden": [4], "bottleneck": 2}},
    "objective": {"name": "autoencoder"},
    "train": {"steps": 5, "global_batch": 32, "lr": 1e-2, "precision": "fp32", "evaluate_rows": 7},
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is given to the loop, which runs nothing."""
    given: list[Any] = []

    class Training:
        def __init__(self, objective: Any, stream: Any, config: Any, **options: Any) -> None:
            given.append({"stream": stream, "config": config, **options})

        def run(self) -> None:
            given[-1]["log"]({"step": 2})

    monkeypatch.setattr(loop, "Training", Training)
    return given


def test_held_out_rows_are_spoilt_by_a_stream_of_their_own_and_not_augmented(made: list[Any]) -> None:
    picture = np.zeros((1, 1, 9, 9), np.uint8)
    picture[0, 0, 4, 4] = 255
    rows: dict[str, Any] = {"input": np.repeat(picture, 20, 0)}
    done: list[float] = []
    context = Context(downloads=Path(), placement={"threads": 1})
    network = train_in_memory.trained(CONFIG, rows, 11, context, {"input": rows["input"][:9]}, done.append)
    (given,) = made
    stream, held_out = given["stream"], given["held_out"]
    assert stream.keys == [key(11, CORRUPT, "rows")] and held_out.keys == [key(11, CORRUPT_HELD_OUT, "rows")]
    assert [stream.order.corpora[0].rows, held_out.order.corpora[0].rows] == [20, 9]
    assert (given["held_out_rows"], given["seed"], given["config"].global_batch) == (7, 11, 20)
    read = [of.read(np.arange(9)) for of in (held_out, stream)]
    assert (read[0]["input"] == picture).all() and not (read[1]["input"] == picture).all()
    assert not np.array_equal(read[0]["seen"], read[1]["seen"])
    assert np.array_equal(held_out.read(np.arange(9))["seen"], read[0]["seen"])
    assert done == [0.4, 1.0] and network.records == [{"step": 2}] and not network.model.training


def test_without_held_out_rows_nothing_is_evaluated(made: list[Any]) -> None:
    rows: Rows = {"input": np.zeros((40, 1, 9, 9), np.uint8)}
    train_in_memory.trained({**CONFIG, "augment": {}}, rows, 0, Context(downloads=Path(), placement={"threads": 1}))
    assert made[0]["held_out"] is None and made[0]["held_out_rows"] == 0 and made[0]["config"].global_batch == 32
    assert AugmentConfig().changes is False
