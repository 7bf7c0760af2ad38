"""Scores of files: what drift is measured on, how images are read, what is done with rows that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_prep.corpus.schema import TableSchema
from data_prep.errors import UserError
from data_prep.tables.transform.transform import Transform
from pipeline.scoring import score_files
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.row_detector import RowDetector, drift_columns
from pipeline.scoring.row_reasons import RowInputs
from pipeline.scoring.score_files import Tally
from tests.pipeline import detectors, tiny_arrays

JOB = "{name: anomaly, task: anomaly, seeds: 1, normal: ['0'], baselines: [], marked: [], shown: 2}"


def scored(detector: RowDetector, path: Path) -> tuple[list[pa.RecordBatch], Tally]:
    tally, batches = Tally(), list[pa.RecordBatch]()
    for file in score_files.files_of(detector, [str(path)], path.parent):
        batches += score_files.score_file(detector, file, tally)
    return batches, tally


# -- the detector ------------------------------------------------------------------------------------------------------


def test_a_score_that_is_no_number_is_an_alarm() -> None:
    detector = detectors.detector()
    inputs = detector.inputs(detectors.rows(3))
    inputs.values[1] = np.nan
    scores = detector.score(inputs)
    assert np.isnan(scores.score[1]) and scores.flag.tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["member-0/model.safetensors", "transform.json", "member-0/anomaly.safetensors"])
def test_a_detector_of_other_files_is_refused(name: str, tmp_path: Path) -> None:
    folder = detectors.saved(tmp_path / "detector")
    raw = bytearray((folder / name).read_bytes())
    raw[-2] ^= 1
    (folder / name).write_bytes(bytes(raw))
    with pytest.raises(UserError, match=f"holds no detector that can be used .*{name} is not the one"):
        RowDetector.open(folder)


# -- drift ------------------------------------------------------------------------------------------------------------


def test_columns_called_like_others_are_told_apart() -> None:
    """A column called as the score is, and one called as a level of another column."""
    rows = pa.record_batch(
        {
            "score": pa.array([1.0, 2.0, 3.0, 4.0]),
            "a": pa.array(["x", "y", "x", "y"]),
            "a=x": pa.array([5.0, 7.0, 5.0, 9.0]),
            "b": pa.array([1.0, 0.0, 0.0, 0.0]),
        }
    )
    schema = TableSchema({"score": "numeric", "a": "categorical", "a=x": "numeric", "b": "numeric"})
    transform = Transform.fit(lambda: [rows], schema=schema)
    inputs, score = RowInputs(transform.apply(rows), transform.outside(rows)), np.array([0.1, 0.2, 0.3, 0.4])
    columns = drift_columns(score, transform, inputs)
    assert transform.features.count("a=x") == 2 and len(columns) == 1 + len(transform.features) + len(rows.schema)
    assert {"score", "column score", "a=x", "column a=x", "b"} < set(columns)
    assert columns["score"] is score
    names = list(columns)[1:]
    whole = np.concatenate([inputs.values, inputs.outside], 1)
    assert all(np.array_equal(columns[name], whole[:, place]) for place, name in enumerate(names))


def test_a_column_called_score_drifts_by_itself(tmp_path: Path) -> None:
    """The detector as if its first column had been called so from the beginning."""
    plain = detectors.detector()
    assert plain.transform is not None
    renamed = json.loads(json.dumps(plain.transform.to_json()).replace('"a"', '"score"'))
    rows = detectors.rows(300, seed=7)
    transform = Transform.of_json(renamed)
    detector = RowDetector(plain.scorer, plain.score_name, plain.threshold, plain.baseline, transform)
    normal = detector.inputs(rows.rename_columns(["score", *rows.schema.names[1:]]))
    watching = drift_columns(detector.score(normal).score, transform, normal)
    detector = RowDetector(
        plain.scorer, plain.score_name, plain.threshold, type(plain.baseline).of(watching), transform
    )
    lines = detectors.csv_lines(detectors.rows(200, seed=8))
    (tmp_path / "a.csv").write_text(detectors.HEADER.replace("a,", "score,", 1) + "".join(lines))
    _, tally = scored(detector, tmp_path / "a.csv")
    assert sum(tally.counts["score"]) == sum(tally.counts["column score"]) == 200
    drift = detector.baseline.drift(tally.counts)
    assert drift["score"].psi < 0.25 and drift["column score"].psi < 0.25
    assert not np.array_equal(detector.baseline.edges["score"], detector.baseline.edges["column score"])


# -- images ---------------------------------------------------------------------------------------------------------


def detector_of(folder: Path, pictures: np.ndarray, images: str) -> RowDetector:
    np.savez(folder / "learn.npz", x=pictures, y=np.arange(len(pictures)) % 4 // 3)
    path = tiny_arrays.recipe(
        folder,
        "images",
        data=f"{{kind: images, sources: [{{path: {folder / 'learn.npz'}}}], images: {images}, "
        "split: {validation: 0.2, test: 0.2}}",
        train="{global_batch: 32, steps: 5, lr: 1e-2, precision: fp32}",
        placement="{threads: 1}",
        downstream=f"[{JOB}]",
    )
    return RowDetector.open(tiny_arrays.make(path, folder)["anomaly"].path / DETECTOR)


def test_pictures_that_are_no_squares_are_scored_as_they_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    detector = detector_of(tmp_path, random.integers(0, 256, (80, 7, 5)).astype(np.uint8), "{channels: 1}")
    new = random.integers(0, 256, (6, 7, 5)).astype(np.uint8)
    np.save(tmp_path / "new.npy", new)
    (batch,), tally = scored(detector, tmp_path / "new.npy")
    assert (tally.rows, tally.rejected) == (6, 0)
    wanted = detector.score(detector.inputs(new[:, None])).score
    assert np.array_equal(batch["score"].to_numpy(), wanted)
    np.save(tmp_path / "turned.npy", new.transpose(0, 2, 1))
    (batch,), tally = scored(detector, tmp_path / "turned.npy")
    assert (tally.rows, tally.rejected) == (0, 6)
    assert set(batch["rejected"].to_pylist()) == {"is 5 × 7 pixels and not 7 × 5, and data.images.size was not set"}


def test_squares_that_were_not_resized_are_not_resized_now(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    detector = detector_of(tmp_path, random.integers(0, 256, (80, 6, 6)).astype(np.uint8), "{channels: 1}")
    np.save(tmp_path / "new.npy", random.integers(0, 256, (3, 12, 12)).astype(np.uint8))
    _, tally = scored(detector, tmp_path / "new.npy")
    assert (tally.rows, tally.rejected) == (0, 3)


def test_pictures_are_cut_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    detector = detector_of(tmp_path, random.integers(0, 256, (40, 9, 13)).astype(np.uint8), "{channels: 1, patch: 4}")
    assert detector.images is not None and detector.images.patch == 4
    new = random.integers(0, 256, (9, 13)).astype(np.uint8)
    Image.fromarray(new).save(tmp_path / "new.png")
    (batch,), tally = scored(detector, tmp_path / "new.png")
    assert tally.rows == 6 and batch["position"].to_pylist() == [1, 2, 3, 4, 5, 6]
    patches = np.stack([new[top : top + 4, left : left + 4] for top in (0, 4) for left in (0, 4, 8)])
    assert np.array_equal(batch["score"].to_numpy(), detector.score(detector.inputs(patches[:, None])).score)


@pytest.mark.parametrize("together", [7, 4096])
def test_rejects_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(score_files, "REJECTS", together)
    lines = detectors.csv_lines(detectors.rows(60))
    lines = [line if number % 3 else "1,2\n" for number, line in enumerate(lines)]
    (tmp_path / "a.csv").write_text(detectors.HEADER + "".join(lines))
    batches, tally = scored(detectors.detector(), tmp_path / "a.csv")
    assert (tally.rows, tally.rejected) == (40, 20)
    refused = [batch for batch in batches if batch["score"].null_count]
    assert [batch.num_rows for batch in refused] == ([7, 7, 6] if together == 7 else [20])
    table = pa.Table.from_batches(batches)
    assert table.schema == score_files.SCHEMA
    assert sorted(table["position"].to_pylist()) == list(range(2, 62))
    rows = {row["position"]: row for row in table.to_pylist()}
    assert all((rows[2 + number]["rejected"] is None) == bool(number % 3) for number in range(60))


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_of_one_name_are_told_apart_and_none_is_scored_twice(tmp_path: Path) -> None:
    detector = detectors.detector()
    for folder, count in (("jan", 3), ("feb", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(
            detectors.HEADER + "".join(detectors.csv_lines(detectors.rows(count)))
        )
    both = [str(tmp_path / folder / "rows.csv") for folder in ("jan", "feb")]
    files = score_files.files_of(detector, [*both, both[0]], tmp_path)
    assert [file.name for file in files] == both
    tally = Tally()
    rows = [
        row for file in files for batch in score_files.score_file(detector, file, tally) for row in batch.to_pylist()
    ]
    assert tally.rows == 8 and len({(row["source"], row["position"]) for row in rows}) == 8
    assert [file.name for file in score_files.files_of(detector, both[:1], tmp_path)] == ["rows.csv"]
