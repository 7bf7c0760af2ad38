"""The job that tells unusual rows: its protocol, and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.errors import UserError
from data_prep.tables.transform.transform import Transform
from pipeline.artifact import Artifact
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.networks import detectors
from pipeline.downstream.anomaly.reasons import explain, sentence
from pipeline.downstream.anomaly.rows import Pool
from pipeline.recipe.load import load
from pipeline.scoring import champion, training_rows
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.row_detector import RowDetector, by_column
from pipeline.scoring.row_reasons import RowInputs
from pipeline.stage import Context
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import table, whole_report
from training.inference.anomaly import STANDARDISED, Usual

TANH = "{architecture: mlp, config: {hidden: [16], bottleneck: 4, activation: tanh}}"
LINEAR = "{architecture: mlp, config: {bottleneck: 1}}"
JOB = (
    "name: anomaly, task: anomaly, seeds: 2, baselines: [pca, ecod, knn], marked: [4], importance_samples: 4, "
    "note: Noise was guessed., "
    f"detectors: [{{name: denoising, networks: [{TANH}, {LINEAR}]}}, "
    "{name: variational, objective: {name: vae}, corruption: {kind: none}, score: likelihood, members: 2}]"
)
SECTIONS = {
    "corruption": "{kind: gaussian, level: 0.3}",
    "train": "{global_batch: 32, steps: 150, lr: 1e-2, log_every: 50, precision: fp32}",
    "placement": "{threads: 1}",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anomaly")


@pytest.fixture(scope="module")
def artifacts(home: Path) -> dict[str, Artifact]:
    return tiny_arrays.make(tiny_arrays.recipe(home, downstream=f"[{{{JOB}}}]", **SECTIONS), home)


def test_the_report_is_whole(artifacts: dict[str, Artifact]) -> None:
    report = whole_report(artifacts["anomaly"])
    methods = [row[0].strip("*") for row in report.tables[0].rows]
    assert len(methods) == len(set(methods)) == len(report.notes["methods"])
    wanted = {"denoising: standardised-error", "denoising: error", "variational: likelihood", "pca", "knn", "ecod"}
    assert wanted | {"ecod (whole batch)", "logistic regression, 4 marked"} <= set(methods)
    assert [row[0] for row in report.tables[0].rows if row[0].startswith("**")] == [
        "**denoising: standardised-error**",
        "**variational: likelihood**",
    ]
    for metrics in report.notes["methods"].values():
        assert all(len(values) == 2 and 0 <= min(values) <= max(values) <= 1 for values in metrics.values())
    page = (artifacts["anomaly"].path / "report.md").read_text()
    assert "no anomaly among them" in page and "which published figures are of. Noise was guessed." in page
    assert all(f"### {other.title}" in page for other in report.tables[1:])
    (candidate,) = report.candidates
    assert (candidate.kind, candidate.path, candidate.score) == ("detector", "detector", None)


def test_what_stays_is_told_of(artifacts: dict[str, Artifact], home: Path, tmp_path: Path) -> None:
    """44 held-out rows promise 1 in 45, not 1 in 100; and too few leave nothing."""
    held_out = sum(RowDetector.open(artifacts["anomaly"].path / "detector").baseline.counts["score"])
    assert 40 < held_out < 48
    assert f"may flag {1 / (held_out + 1):.1%} of normal ones, not 1.0%" in whole_report(artifacts["anomaly"]).verdict
    job = "{name: anomaly, task: anomaly, seeds: 1, baselines: [pca], marked: []}"
    few = tiny_arrays.recipe(tmp_path, downstream=f"[{job}]", **SECTIONS)
    other = tiny_arrays.make(few, tmp_path, "data.split={validation: 0.03, test: 0.2}", "train.steps=10")["anomaly"]
    assert not (other.path / "detector").exists()
    assert "No detector is left for new rows: its threshold needs 10 normal rows" in whole_report(other).verdict


def test_anomalies_are_told_from_normal_rows(artifacts: dict[str, Artifact]) -> None:
    metrics = whole_report(artifacts["anomaly"]).notes["methods"]
    assert np.mean(metrics["denoising: standardised-error"]["auroc"]) > 0.9
    assert np.mean(metrics["variational: likelihood"]["auroc"]) > 0.8
    assert len(set(metrics["denoising: error"]["auroc"])) > 1, "each split is a network of its own"


def test_the_candidate_is_chosen_by_normal_rows(artifacts: dict[str, Artifact]) -> None:
    rows = table(whole_report(artifacts["anomaly"]), "Candidates of denoising").rows
    losses = {name.strip("*"): float(loss) for name, loss in rows}
    assert min(losses, key=losses.__getitem__) == "mlp 16-4 tanh"
    assert [name for name, _ in rows if name.startswith("**")] == ["**mlp 16-4 tanh**"]


def test_thresholds_are_told(artifacts: dict[str, Artifact]) -> None:
    rows = table(whole_report(artifacts["anomaly"]), "Thresholds for 1 % false alarms").rows
    assert [row[1] for row in rows] == ["by quantile", "by tail", "by labels"] * 2
    summary = artifacts["anomaly"].summary
    assert summary["false_alarms/by_quantile"] < 0.15
    assert summary["recall/by_quantile"] > summary["false_alarms/by_quantile"]


def test_reasons_name_columns_and_what_they_held(artifacts: dict[str, Artifact]) -> None:
    for reason in whole_report(artifacts["anomaly"]).notes["reasons"]:
        assert reason["row"].startswith("rows.csv") or "rows.csv" in reason["row"]
        assert reason["label"] in ("odd", "usual")
        shares = [column["share"] for column in reason["columns"]]
        assert shares == sorted(shares, reverse=True) and 0 < shares[0] <= 1
        assert {column["column"] for column in reason["columns"]} == {*(f"x{i}" for i in range(5)), "colour"}


def test_a_rerun_finds_the_same(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    assert tiny_arrays.same_twice(artifacts, "anomaly", tmp_path)


@pytest.mark.parametrize(
    "settings",
    [(), ("data.train_on=normal", "downstream.0.false_alarms=0.05", "train.steps=5", "downstream.0.seeds=1")],
)
def test_the_detector_tells_what_it_has_learned_from(
    artifacts: dict[str, Artifact], home: Path, settings: tuple[str, ...]
) -> None:
    """Rows of the shards: of the training split all or the normal ones."""
    others = tiny_arrays.make(home / "tiny-table.yaml", home, *settings) if settings else artifacts
    folder = others["anomaly"].path / DETECTOR
    wanted = set[int]()
    for split in ("train", "validation"):
        corpus = ArrayCorpus(others["ingest"].path, split)
        batch = corpus.read(np.arange(len(corpus)))
        digests = training_rows.of_rows(batch.input)
        wanted |= set(digests[batch.label == 0] if settings and split == "train" else digests)
    assert set(training_rows.load(folder)) == wanted
    assert RowDetector.open(folder).false_alarms == (0.05 if settings else 0.01)


def pool_of(artifacts: dict[str, Artifact], **settings: Any) -> Pool:
    job = Config(task="anomaly", name="anomaly", **{"marked": [4], **settings})
    return Pool(artifacts["ingest"].path, job, 0)


def test_a_draw_parts_the_rows(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts)
    draw = pool.draw(0)
    parts = [draw.learn, draw.held_out, draw.marked, draw.test]
    assert sorted(np.concatenate(parts)) == list(range(len(pool.anomalous))), "each row once"
    assert not pool.anomalous[draw.train].any() and pool.anomalous[draw.marked].all()
    assert np.array_equal(pool.anomalous[draw.test], draw.truth)
    normal = int((~pool.anomalous).sum())
    assert len(draw.train) == round(0.7 * normal) and len(draw.held_out) == round(0.2 * len(draw.train))
    again, other = pool_of(artifacts).draw(0), pool.draw(1)
    assert np.array_equal(again.learn, draw.learn) and not np.array_equal(np.sort(other.learn), np.sort(draw.learn))


def test_contamination_mixes_unmarked_anomalies_in(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts, contamination=0.05)
    draw = pool.draw(0)
    assert pool.anomalous[draw.train].mean() == pytest.approx(0.05, abs=0.01)
    assert not set(draw.train) & {*draw.test, *draw.marked}
    assert pool.anomalous[draw.learn].any()


def test_the_transform_is_fitted_on_what_is_learned_from(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts)
    draw = pool.draw(0)
    rows = pool.scaled(draw.learn, {"indicators": "never", "fill": "mean"})
    assert rows.transform is not None
    numbers = [place for place, name in enumerate(rows.transform.columns_of) if name != "colour"]
    np.testing.assert_allclose(rows.inputs[draw.learn][:, numbers].mean(0), 0, atol=1e-5)
    assert np.abs(rows.inputs[draw.test][:, numbers].mean(0)).min() > 1e-4


def test_fewer_rows_can_be_drawn(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts, rows=100)
    assert len(pool.anomalous) == 100
    whole = pool_of(artifacts)
    known = {whole.named(number) for number in range(len(whole.anomalous))}
    assert {pool.named(number) for number in range(100)} <= known


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"contamination": 0.4}, "lower contamination"),
        ({"threshold_share": 0.99}, "too few to learn from"),
    ],
)
def test_draws_that_cannot_be_made_are_refused(
    artifacts: dict[str, Artifact], settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        pool_of(artifacts, **settings).draw(0)


def plane(count: int, seed: int, scale: float = 1.0) -> pa.RecordBatch:
    """Six numbers on a plane through three of them, nearly."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(3, 6))
    values = random.normal(size=(count, 3)) @ mixing + 0.05 * random.normal(size=(count, 6))
    return pa.record_batch([pa.array(scale * column) for column in values.T], names=[f"v{i}" for i in range(6)])


def trained_on(train: pa.RecordBatch) -> tuple[Transform, Any]:
    transform = Transform.fit(lambda: [train])
    config = {
        "kind": "table",
        "network": {"architecture": "mlp", "config": {"hidden": [32], "bottleneck": 3, "activation": "tanh"}},
        "objective": {"name": "autoencoder"},
        "corruption": {"kind": "gaussian", "level": 0.1},
        "train": {"steps": 400, "global_batch": 64, "lr": 1e-2, "precision": "fp32"},
        "seed": 0,
    }
    asked = Config(task="anomaly", name="anomaly").detectors[0]
    detector = detectors(config, asked, Context(downloads=Path(), placement={"threads": 1}))[0]
    return transform, detector.scorer(transform.apply(train), seed=1)


def test_a_planted_fault_is_named() -> None:
    """One value of a normal row is moved by two standard deviations: not far, but against what the others say."""
    transform, scorer = trained_on(plane(600, seed=0))
    learned = plane(600, seed=0)
    usual = Usual.of((scorer.scores(transform.apply(learned))[STANDARDISED], transform.outside(learned)))
    right = 0
    for column in range(6):
        rows = plane(20, seed=1)
        names = rows.schema.names
        normal = rows[column].to_numpy()
        moved = normal + 2.0 * np.std(normal)
        rows = rows.set_column(column, names[column], pa.array(moved))
        inputs = RowInputs(transform.within(transform.apply(rows)), transform.outside(rows), rows)
        explained = explain(inputs, scorer.scores(inputs.values)[STANDARDISED], scorer, transform, usual)
        right += sum(reasons[0]["column"] == names[column] for reasons in explained)
        assert explained[0][0]["value"] == f"{moved[0]:.4g}" and explained[0][0]["value"] in sentence(explained[0])
        expected = np.array([float(reasons[0]["expected"]) for reasons in explained])
        assert np.median(np.abs(expected - normal)) < 0.5 * np.median(np.abs(moved - normal))
    assert right >= 0.95 * 120, f"{right} of 120 faults named"


def test_the_scale_of_a_column_does_not_matter() -> None:
    scores = []
    for scale in (1.0, 1000.0):
        transform, scorer = trained_on(plane(300, seed=0, scale=scale))
        rows = plane(30, seed=1, scale=scale)
        scores.append(scorer.scores(transform.apply(rows)))
    for name, values in scores[0].items():
        np.testing.assert_allclose(scores[1][name], values, rtol=0.02, atol=1e-4)


def test_features_of_a_column_are_added_up() -> None:
    names, errors = by_column(np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 3.0]]), ["a", "b", "a"])
    assert names == ["a", "b"] and errors.tolist() == [[5.0, 2.0], [3.0, 1.0]]


def test_images_of_another_kind_are_anomalies(tmp_path: Path) -> None:
    job = (
        "{name: anomaly, task: anomaly, normal: ['0'], seeds: 2, baselines: [pca-reconstruction], marked: [], shown: 3}"
    )
    path = tiny_arrays.recipe(
        tmp_path, "images", downstream=f"[{job}]", train=SECTIONS["train"], placement=SECTIONS["placement"]
    )
    report = whole_report(tiny_arrays.make(path, tmp_path)["anomaly"])
    assert np.mean(report.notes["methods"]["auto-encoder: error"]["auroc"]) > 0.9
    assert {row[1] for row in table(report, "Thresholds for 1 % false alarms").rows} == {"by quantile", "by tail"}
    with pytest.raises(UserError, match="name the normal ones"):
        tiny_arrays.make(path, tmp_path, "downstream.0.normal=['9']")
    with pytest.raises(UserError, match=r"downstream\.0\.task: which labels are normal is not known; set data\.normal"):
        load(path, overrides=["downstream.0.normal=[]"])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("detectors: [{name: a, score: likelihood}]", "detectors.0.score: likelihood is of objective vae"),
        ("detectors: [{name: a}, {name: a}]", "detectors.1.name: two detectors are called 'a'"),
        ("baselines: [svm]", "baselines.0"),
        ("normal: [fine]", r"normal: names labels of images; set data\.table\.normal"),
    ],
)
def test_recipes_that_cannot_work_are_refused_before_anything_runs(
    tmp_path: Path, settings: str, complaint: str
) -> None:
    path = tiny_arrays.recipe(tmp_path, downstream=f"[{{name: anomaly, task: anomaly, {settings}}}]")
    with pytest.raises(UserError, match=complaint):
        load(path)


def test_a_table_with_labels_must_tell_what_is_normal_before_anything_is_trained(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path, downstream="[{name: anomaly, task: anomaly}]")
    with pytest.raises(UserError, match=r"set data\.table\.normal, or leave out data\.table\.target if all rows are"):
        load(path, overrides=["data.table.normal=null"])
    load(path, overrides=["data.table.normal=null", "data.table.target=null"])


QUICK = "{name: anomaly, task: anomaly, seeds: 1, baselines: [pca], marked: [5, 20], false_alarms: 0.1, shown: 2}"


@pytest.mark.parametrize("labels", ["none", "one"])
def test_without_anomalies_there_is_a_detector_and_no_auroc(tmp_path: Path, labels: str) -> None:
    """Whether rows have no labels, or all the normal one; what it flags of test rows is told with its interval."""
    path = tiny_arrays.recipe(tmp_path, downstream=f"[{QUICK}]", **SECTIONS)
    tiny_arrays.table(tmp_path / "rows.csv", 240, anomalies=0)
    settings = (
        ["data.table.normal=null", "data.table.target=null", "data.table.drop=[kind]"] if labels == "none" else []
    )
    made = tiny_arrays.make(path, tmp_path, "train.steps=20", *settings)
    report, folder = whole_report(made["anomaly"]), made["anomaly"].path / DETECTOR
    assert "no AUROC" in report.verdict and "auroc/ours" not in report.numbers and len(report.candidates) == 1
    flagged = table(report, "The detector that stays").rows
    assert [row[0] for row in flagged] == ["normal rows"] and int(flagged[0][1]) == len(
        ArrayCorpus(made["ingest"].path, "test")
    )
    rows, left_out = RowDetector.open(folder).test_rows(made["ingest"].path, training_rows.load(folder))
    share = RowDetector.open(folder).evaluate(rows, []).value
    assert left_out == 0 and report.numbers["detector/false_alarms"] == share
    verdict = champion.challenge(tmp_path / "detectors", "mine", folder, made["ingest"].path)
    assert (verdict.measure, verdict.challenger, verdict.promoted) == ("share flagged", share, True)


def test_few_anomalies_are_not_marked_and_that_is_said(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts, marked=[5, 24])
    assert pool.marked == [5] and len(pool.draw(0).marked) == 5


def test_what_the_report_promises_is_of_the_detector_that_is_saved(artifacts: dict[str, Artifact]) -> None:
    """Its file flags as many of the test rows as the report says."""
    report, folder = whole_report(artifacts["anomaly"]), artifacts["anomaly"].path / DETECTOR
    detector = RowDetector.open(folder)
    corpus = ArrayCorpus(artifacts["ingest"].path, "test")
    batch = corpus.read(np.arange(len(corpus)))
    flag = detector.score(detector.inputs(batch.input)).flag
    rows = {row[0]: (int(row[1]), int(row[2])) for row in table(report, "The detector that stays").rows}
    assert rows == {
        name: (int((batch.label == label).sum()), int(flag[batch.label == label].sum()))
        for name, label in (("normal rows", 0), ("odd", 1))
    }
    assert report.numbers["detector/recall"] == flag[batch.label == 1].mean()
    assert f"drawn by {detector.held_out} normal rows held out" in report.verdict
