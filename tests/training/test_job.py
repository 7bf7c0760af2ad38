"""A job's streams: what is trained on, what is held out, and by which draws each is corrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corruptions import config_of
from data_prep.rng import key
from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.streams import CORRUPT, CORRUPT_HELD_OUT
from training import job as jobs
from training.data import MemoryTable

PICTURES = np.zeros((50, 1, 9, 9), np.uint8)
PICTURES[:, 0, 4, 4] = np.arange(1, 51)


def job(**settings: Any) -> jobs.Job:
    values = {
        "corpora": [{"name": "web", "folder": "web"}, {"name": "books", "folder": "books", "weight": 3.0}],
        "held_out": "validation", "kind": "images", "augment": {"translate": 3},
        "corruption": {"kind": "gaussian", "level": 0.5}, "order": {"length_window": None},
        "network": {"architecture": "mlp"}, "objective": {"name": "autoencoder"},
        "train": {"steps": 5, "global_batch": 8, "lr": 1e-2, "evaluate_rows": 12}, "seed": 4, "work": "", "out": "",
        "recipe": "", **settings,
    }  # fmt: skip
    return jobs.Job.model_validate(values)


def table(folder: str) -> MemoryTable:
    count = {"web": 50, "books": 30, "validation": 20}[folder]
    return MemoryTable({"input": PICTURES[:count]}, count)


def test_held_out_rows_have_draws_of_their_own_and_are_not_augmented() -> None:
    stream: Any = jobs.training_stream(job(), table, None, [])
    held_out, count = jobs.held_out_stream(job(), table, None)
    assert held_out is not None and count == 12
    assert stream.keys == [key(4, CORRUPT, "web"), key(4, CORRUPT, "books")]
    assert held_out.keys == [key(4, CORRUPT_HELD_OUT, "web")]
    assert [(corpus.name, corpus.rows, corpus.weight) for corpus in stream.order.corpora] == [
        ("web", 50, 1.0),
        ("books", 30, 3.0),
    ]
    assert [corpus.table.rows for corpus in held_out.corpora] == [20]
    rows, unseen = stream.read(np.arange(40)), held_out.read(np.arange(12))
    assert (np.asarray(unseen["input"])[:, 0, 4, 4] > 0).all() and not (np.asarray(rows["input"])[:, 0, 4, 4] > 0).all()
    assert not np.array_equal(np.asarray(unseen["seen"]), np.asarray(unseen["input"]) / 255)
    assert np.array_equal(np.asarray(held_out.read(np.arange(12))["seen"]), np.asarray(unseen["seen"]))


def test_fewer_rows_are_evaluated_than_asked_where_there_are_no_more() -> None:
    assert jobs.held_out_stream(job(held_out=None), table, None) == (None, 0)
    train = {"steps": 5, "global_batch": 8, "lr": 1e-2, "evaluate_rows": 500}
    assert jobs.held_out_stream(job(train=train), table, None)[1] == 20


def test_rows_say_which_source_they_are_of() -> None:
    corpora = [{"name": "web-1", "folder": "web", "source": "web"}, {"name": "books", "folder": "books"}]
    stream: Any = jobs.training_stream(job(corpora=corpora, augment={}), table, None, ["books", "web"])
    rows = stream.read(np.arange(100))
    values = np.asarray(rows["input"])[:, 0, 4, 4]
    assert set(np.asarray(rows["source"])[values > 30]) == {1}
    assert "source" not in jobs.training_stream(job(), table, None, []).read(np.arange(4))


def test_a_torn_last_line_of_the_metrics_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "work" / jobs.METRICS
    path.parent.mkdir()
    path.write_text('{"step": 1}\n{"st')
    with jobs.MetricsLog(path, enabled=True) as log:
        log({"step": 2})
        lines = path.read_text().splitlines()
        assert lines[0] == '{"step": 1}' and lines[1].startswith('{"step": 2, "time": ') and len(lines) == 2
    with jobs.MetricsLog(tmp_path / "other" / jobs.METRICS, enabled=False):
        assert not (tmp_path / "other").exists()


def test_longer_rows_come_at_their_step_with_their_own_corruption(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(jobs, "corruption_on_load", lambda config, specials: asked.append(config))
    longer = {"length": 64, "share": 0.25, "max_predictions": 9}
    stream: Any = jobs.training_stream(
        job(
            corruption={"kind": "masked-lm", "max_predictions": 5},
            longer=[{"name": "web", "folder": "books"}],
            train={"steps": 8, "global_batch": 8, "lr": 1e-2, "longer": longer},
        ),
        table,
        None,
        [],
    )
    assert stream.begins == 6 * 8
    phases = (stream.first, stream.second)
    assert [[corpus.table.rows for corpus in phase.corpora] for phase in phases] == [[50, 30], [30]]
    assert [corruption.max_predictions for corruption in asked] == [5, 9]


def test_held_out_rows_are_not_regrouped_by_length() -> None:
    regrouped = job(order={"length_window": 4})
    stream: Any = jobs.training_stream(regrouped, table, None, [])
    held_out, _ = jobs.held_out_stream(regrouped, table, None)
    assert isinstance(stream.places, LengthBuckets)
    assert held_out is not None and held_out.places is held_out.order


def test_rows_that_were_corrupted_in_shards_are_read_as_they_are() -> None:
    assert jobs.corruption_on_load(config_of({"kind": "gaussian", "level": 0.5, "at": "shards"})) is None
    assert jobs.corruption_on_load(config_of({"kind": "gaussian", "level": 0.5, "at": "load"})) is not None
