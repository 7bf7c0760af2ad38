"""Tables and images go through the same stages as text: from files to a trained network and a report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.errors import UserError
from data_prep.shards.reader import Shards
from data_prep.tables.transform.transform import FILE as TRANSFORM
from data_prep.tables.transform.transform import Transform, TransformConfig
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.rows import plane
from pipeline.execute import _line
from pipeline.records import read_records
from tests.pipeline import tiny_arrays
from training.inference.networks.arrays import open_model
from training.job import METRICS

KINDS = ("table", "images")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


@pytest.fixture(scope="module", params=KINDS)
def artifacts(request: pytest.FixtureRequest, homes: Path) -> dict[str, Artifact]:
    path = tiny_arrays.recipe(homes / request.param, request.param)
    return tiny_arrays.make(path, homes / request.param)


def test_every_row_is_in_one_split(artifacts: dict[str, Artifact]) -> None:
    corpus, shards = artifacts["ingest"], artifacts["shards"]
    rows = {split: Shards(shards.path / split).rows for split in ("train", "validation", "test")}
    assert sum(rows.values()) == corpus.summary["kept"]
    assert rows == {split: shards.summary[split]["rows"] for split in rows}
    assert rows["validation"] == rows["test"] == round(0.2 * corpus.summary["kept"])


def test_shards_hold_what_the_corpus_does(artifacts: dict[str, Artifact]) -> None:
    corpus, table = ArrayCorpus(artifacts["ingest"].path, "test"), Shards(artifacts["shards"].path / "test")
    rows = table.read(np.arange(table.rows))
    whole = corpus.read(np.arange(len(corpus)))
    assert np.array_equal(np.asarray(rows["label"]), whole.label)
    if corpus.kind == "images":
        assert np.array_equal(np.asarray(rows["input"]), whole.input)
    else:
        transform = Transform.load(artifacts["transform"].path / TRANSFORM)
        assert np.array_equal(np.asarray(rows["input"]), transform.apply(whole.input))
        assert set(transform.columns_of) == {"x0", "x1", "x2", "x3", "x4", "colour"}, "the label is no input"


def test_the_loss_falls_and_weights_move(artifacts: dict[str, Artifact]) -> None:
    records = read_records(artifacts["pretrain"].path / METRICS)
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert losses[-1] < 0.8 * losses[0]
    model = open_model(artifacts["pretrain"].path / MODEL)
    table = Shards(artifacts["shards"].path / "test")
    rows = torch.from_numpy(np.asarray(table.read(np.arange(8))["input"]).astype(np.float32))
    codes = model.encode(rows / 255 if artifacts["ingest"].summary["kind"] == "images" else rows)
    assert codes.std(0).min() > 0, "codes vary from row to row"
    assert (model.decode(codes).flatten(1).std(0) > 0).any()


def test_speed_is_told_in_what_the_recipe_holds(artifacts: dict[str, Artifact]) -> None:
    unit = "images" if artifacts["ingest"].summary["kind"] == "images" else "rows"
    names = {name for record in read_records(artifacts["pretrain"].path / METRICS) for name in record}
    assert {f"workers/{unit}_per_second", f"progress/{unit}_seen"} <= names and not [
        name for name in names if "tokens" in name
    ]
    page = (artifacts["report"].path / "report.md").read_text()
    assert f" {unit}/s at the end" in page and "tokens" not in page
    assert (artifacts["report"].path / "figures" / "pretrain" / "throughput.png").is_file()


def test_the_line_of_a_running_training() -> None:
    record = {"step": 5, "train/loss": 0.25, "progress/seconds_left": 30.0}
    assert (
        _line({**record, "workers/images_per_second": 1234.5}, 10)
        == "step 5 of 10, loss 0.250, 1,234 images/s, 30 s left"
    )
    assert (
        _line({**record, "workers/tokens_per_second": 9500.0}, 10)
        == "step 5 of 10, loss 0.250, 9,500 tokens/s, 30 s left"
    )


def test_a_model_of_a_table_keeps_its_transform(artifacts: dict[str, Artifact]) -> None:
    beside = artifacts["pretrain"].path / MODEL / TRANSFORM
    if artifacts["ingest"].summary["kind"] == "table":
        assert beside.read_bytes() == (artifacts["transform"].path / TRANSFORM).read_bytes()
    else:
        assert not beside.exists()


def test_the_report_tells_codes_from_components(artifacts: dict[str, Artifact]) -> None:
    report = json.loads((artifacts["report"].path / "report.json").read_text())
    codes = report["downstream"]["codes"]
    assert codes["notes"]["features"]["auto-encoder"]["error"] != codes["notes"]["features"]["PCA"]["error"] > 0
    assert {"knn", "linear"} <= set(codes["notes"]["features"]["auto-encoder"])
    page = (artifacts["report"].path / "report.md").read_text()
    assert codes["verdict"] in page
    shown = [line.partition("(")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(shown) >= 2
    assert [name for name in shown if not (artifacts["report"].path / name).is_file()] == []
    card = (artifacts["pretrain"].path / MODEL / "README.md").read_text()
    assert "open_encoder" in card and "| rows kept |" in card


@pytest.mark.parametrize("kind", KINDS)
def test_making_it_again_gives_the_same_bytes(kind: str, homes: Path, tmp_path: Path) -> None:
    path = tiny_arrays.recipe(homes / kind, kind)
    first, second = tiny_arrays.make(path, homes / kind), tiny_arrays.make(path, tmp_path)
    same = ("ingest", "shards", "pretrain", "codes")
    assert [first[name].key for name in same] == [second[name].key for name in same]
    for name in ("ingest", "shards"):
        assert first[name].output_digest == second[name].output_digest
    weights = [artifacts_of["pretrain"].path / MODEL / "model.safetensors" for artifacts_of in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_one_number_is_a_code_too(tmp_path: Path) -> None:
    network = "{architecture: mlp, config: {hidden: [8], bottleneck: 1}}"
    artifacts = tiny_arrays.make(tiny_arrays.recipe(tmp_path, network=network), tmp_path, "train.steps=5")
    summary = artifacts["codes"].summary
    assert summary and (artifacts["report"].path / "report.md").is_file()


def test_two_numbers_a_row_are_drawn_of_any_number() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 1))
    assert np.array_equal(plane(rows)(rows), np.hstack([rows, np.zeros((20, 1))]))
    wide = np.hstack([rows, 3 * rows, 0.1 * rows])
    assert plane(wide)(wide).shape == (20, 2) and plane(wide)(wide)[:, 0].std() > 2


def test_one_class_training_never_sees_an_anomaly(homes: Path, tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path, downstream="[]")
    artifacts = tiny_arrays.make(path, tmp_path, "data.train_on=normal", "train.steps=2")
    train, test = (Shards(artifacts["shards"].path / split) for split in ("train", "test"))
    assert set(np.asarray(train.read(np.arange(train.rows))["label"])) == {0}
    assert set(np.asarray(test.read(np.arange(test.rows))["label"])) == {0, 1}
    corpus = ArrayCorpus(artifacts["ingest"].path, "train")
    rows = corpus.read(np.arange(len(corpus)))
    assert isinstance(rows.input, pa.RecordBatch) and set(rows.label) == {0, 1}
    normal = rows.input.take(pa.array(np.flatnonzero(rows.label == 0)))
    fitted = Transform.fit(lambda: [normal], TransformConfig(), corpus.schema)
    fitted.save(tmp_path / TRANSFORM)
    assert (tmp_path / TRANSFORM).read_bytes() == (artifacts["transform"].path / TRANSFORM).read_bytes()
    with pytest.raises(UserError, match=r"data\.train_on: normal needs labels"):
        tiny_arrays.make(path, tmp_path / "other", "data.train_on=normal", "data.table={}")


def test_the_transform_is_fitted_to_training_rows(homes: Path, tmp_path: Path) -> None:
    artifacts = tiny_arrays.make(tiny_arrays.recipe(homes / "table", "table"), homes / "table")
    corpus = ArrayCorpus(artifacts["ingest"].path, "train")
    Transform.fit(lambda: (batch.input for batch in corpus.batches()), TransformConfig(), corpus.schema).save(
        tmp_path / TRANSFORM
    )
    assert (tmp_path / TRANSFORM).read_bytes() == (artifacts["transform"].path / TRANSFORM).read_bytes()


def test_noise_is_on_what_is_seen_alone(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path, "images", downstream="[]")
    plain = tiny_arrays.make(path, tmp_path)
    noisy = tiny_arrays.make(path, tmp_path, "corruption={kind: masking, level: 0.5}")
    assert plain["shards"].key == noisy["shards"].key
    assert plain["pretrain"].summary["train/loss"] < noisy["pretrain"].summary["train/loss"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["data.kind=tables"],
            "allowed: text, table, images, sound; did you mean table?",
        ),
        (["data.images={size: 8}"], "data.images: unknown key"),
        (["compose={kind: packed}"], "compose: is for data.kind text, found table; leave it out"),
        (["train.longer={length: 64}"], "train.longer: is for text"),
        (
            ["downstream=[{name: codes, task: code}]"],
            "downstream.0.task: found 'code' (text); did you mean codes or choice? `sesame settings",
        ),
        (["downstream=[{name: codes}]"], "downstream.0.task: missing"),
        (["downstream=[{name: codes, task: codes, neighbour: 3}]"], "did you mean downstream.0.neighbours?"),
        (["downstream=[{name: shards, task: codes}]"], "downstream.0.name: 'shards' is the name of a stage"),
        (["objective.name=masked-lm"], "objective.name: 'masked-lm' does not learn from table data"),
        (["network.config.bottleneck=0"], "network.config.bottleneck"),
        (["objective.options={sentence: nsp}"], "objective.options.sentence"),
        (["network.architecture=bert"], "network.architecture: 'bert' is no auto-encoder; choose mlp or conv"),
    ],
)
def test_mistakes_get_one_sentence(settings: list[str], message: str, tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path)
    with pytest.raises(UserError) as caught:
        tiny_arrays.make(path, tmp_path, *settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)
