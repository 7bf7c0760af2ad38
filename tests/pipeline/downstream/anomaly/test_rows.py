"""Rows with equal inputs: an anomaly job has each once, and none that is there as normal and as an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_prep.corpus.documents import SplitConfig
from data_prep.errors import UserError
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.config import SourceConfig
from data_prep.tables.schema import TableConfig
from pipeline.downstream.anomaly import report
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.rows import Pool
from pipeline.scoring import training_rows
from tests.data_prep.ingesting import ingest_arrays
from tests.pipeline import tiny_arrays
from tests.said import said

JOB = Config(task="anomaly", name="anomaly", marked=[2])
SPLIT = SplitConfig(validation=0.2, test=0.2)


def table(folder: Path, labels: Sequence[str]) -> Path:
    """Rows of one number and a label each, "NUMBER LABEL"."""
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("\n".join(["a,kind", *(label.replace(" ", ",") for label in labels)]) + "\n")
    config = TableConfig(target="kind", normal=["usual"])
    ingest_arrays([SourceConfig(path=str(folder / "rows.csv"))], config, 0, SPLIT, 0, folder / "corpus", folder)
    return folder / "corpus"


PLAIN = [*(f"{number} usual" for number in range(60)), *(f"{number} odd" for number in range(60, 80))]


def test_an_input_of_both_sides_is_left_out(tmp_path: Path) -> None:
    both = ["3 odd", "3 strange", "7 odd", "65 usual"]
    pool = Pool(table(tmp_path / "both", [*PLAIN, *both, "70 strange"]), JOB, 0)
    rows: Any = pool.rows
    assert isinstance(rows, pa.RecordBatch)
    values = rows.column("a").to_numpy()
    assert pool.torn == 7 and set(values) == set(range(80)) - {3, 7, 65} and len(values) == 77
    assert np.array_equal(pool.anomalous, values >= 60)
    assert len(pool.places) == len(pool.labels) == 77
    for row, value in enumerate(values):
        place, label = pool.named(row)
        assert label == pool.labels[row] and (label == "usual") == (value < 60)
        line = [*PLAIN, *both, "70 strange"][int(place.rpartition(":")[2]) - 2]
        assert line == f"{value:.0f} {label}"
    draw = pool.draw(0)
    assert not set(values[draw.train]) & set(values[draw.test])


def test_nothing_changes_where_inputs_differ(tmp_path: Path) -> None:
    pool = Pool(table(tmp_path / "plain", PLAIN), JOB, 0)
    batch: Any = pool.rows
    assert pool.torn == 0 and isinstance(batch, pa.RecordBatch)
    corpora = [corpus.read(np.arange(len(corpus))).input for corpus in pool.corpora]
    assert batch.column("a").to_pylist() == [value for rows in corpora for value in rows["a"].to_pylist()]
    assert pool.places == [(corpus, row) for corpus in pool.corpora for row in range(len(corpus))]


def test_no_normal_row_left_is_told(tmp_path: Path) -> None:
    labels = [*(f"{number} usual" for number in range(20)), *(f"{number} odd" for number in range(60))]
    with pytest.raises(UserError, match=r"downstream\.anomaly: none of the 40 rows is normal"):
        Pool(table(tmp_path / "both", labels), JOB, 0)


def test_pictures_that_are_equal(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    pixels[30:32] = pixels[0]
    np.savez(tmp_path / "images.npz", x=pixels, y=np.arange(40) // 20)
    source = SourceConfig(path=str(tmp_path / "images.npz"))
    ingest_arrays([source], ImagesConfig(), 0, SPLIT, 0, tmp_path / "corpus", tmp_path)
    pool = Pool(tmp_path / "corpus", JOB.model_copy(update={"normal": ["0"]}), 0)
    assert (pool.torn, len(pool.anomalous), int(pool.anomalous.sum())) == (2, 37, 18)
    assert len(np.unique(training_rows.of_rows(pool.rows))) == 37


def test_the_report_says_how_many_were_left_out(tmp_path: Path) -> None:
    lines = tiny_arrays.table(tmp_path / "plain.csv").read_text().splitlines()
    lines += [line.replace("usual", "odd") for line in lines[-3:]]
    (tmp_path / "both.csv").write_text("\n".join(lines) + "\n")
    pages = {}
    for name in ("plain", "both"):
        path = tiny_arrays.recipe(
            tmp_path,
            data=f"{{kind: table, sources: [{{path: {tmp_path / name}.csv}}], split: {{validation: 0.2, test: 0.2}}, "
            "table: {target: kind, normal: [usual]}}",
            train="{global_batch: 32, steps: 5, lr: 1e-2, precision: fp32}",
            placement="{threads: 1}",
            downstream="[{name: anomaly, task: anomaly, seeds: 1, baselines: [], marked: [2], shown: 2}]",
        )
        pages[name] = (tiny_arrays.make(path, tmp_path)["anomaly"].path / "report.md").read_text()
    assert said("216 normal rows and 24 anomalies, without duplicates; mean ± standard", pages["plain"])
    left_out = "without duplicates and 6 rows whose input is there as normal and as an anomaly; mean"
    assert said(f"213 normal rows and 24 anomalies, {left_out}", pages["both"])


def test_by_time_the_latest_rows_are_tested_on(tmp_path: Path) -> None:
    """Rows come in no order; every split is the same."""
    times = [number * 37 % 100 for number in range(100)]
    lines = [f"{time},{time * 7919 % 101},{'odd' if time % 10 == 0 else 'usual'}" for time in times]
    (tmp_path / "rows.csv").write_text("\n".join(["t,a,kind", *lines]) + "\n")
    config = TableConfig(target="kind", normal=["usual"], time="t")
    ingest_arrays([SourceConfig(path=str(tmp_path / "rows.csv"))], config, 0, SPLIT, 0, tmp_path / "corpus", tmp_path)
    pool = Pool(tmp_path / "corpus", JOB.model_copy(update={"marked": [2]}), 0)
    assert pool.times is not None
    draws = [pool.draw(number) for number in range(2)]
    for draw in draws:
        normal = draw.test[~draw.truth]
        assert pool.times[draw.learn].max() < pool.times[draw.held_out].min() <= pool.times[draw.held_out].max()
        assert pool.times[draw.held_out].max() < pool.times[normal].min()
    assert np.array_equal(draws[0].learn, draws[1].learn)
    tested = pool.times[draws[0].test]
    earlier = int((tested[draws[0].truth] < tested[~draws[0].truth].min()).sum())
    assert 0 < earlier < draws[0].truth.sum()
    assert f" {earlier} of the {draws[0].truth.sum()} anomalies tested are earlier" in report.by_time(pool, draws[0])
