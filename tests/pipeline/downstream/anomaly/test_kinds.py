"""Anomalies by kind: which are marked, what is measured of each, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream.anomaly import kinds as anomaly_kinds
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.measures import KNOWN, NEW, Measurements
from pipeline.downstream.anomaly.rows import Pool
from pipeline.recipe.load import load
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import table, whole_report
from tests.said import said

MARKS = ("row", "column", "corner", "cross")  # three kinds of anomalies, and normal rows
JOB = (
    "name: anomaly, task: anomaly, normal: [row], seeds: 3, train_share: 0.6, baselines: [knn], marked: [3], "
    "known_kinds: 1, shown: 3"
)


def pictures(path: Path, count: int = 240) -> Path:
    """Grey 8×8 images with a bright row (half of them), column, corner or cross."""
    random = np.random.default_rng(6)
    pixels = random.integers(0, 40, (count, 8, 8), np.uint8)
    kinds = np.where(np.arange(count) % 2, 0, 1 + np.arange(count) // 2 % 3)
    for picture, kind in zip(pixels, kinds, strict=True):
        place = random.integers(2, 6)
        if kind == 2:
            picture[:3, :3] = 220
        if kind in (0, 3):
            picture[place] = 220
        if kind in (1, 3):
            picture[:, place] = 220
    np.savez(path, x=pixels, y=np.array(MARKS)[kinds])
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def recipe(home: Path) -> Path:
    path = tiny_arrays.recipe(
        home,
        "images",
        train="{global_batch: 32, steps: 60, lr: 1e-2, log_every: 30, precision: fp32}",
        downstream=f"[{{{JOB}}}]",
        placement="{threads: 1}",
    )
    pictures(home / "images.npz")
    return path


@pytest.fixture(scope="module")
def artifacts(home: Path, recipe: Path) -> dict[str, Artifact]:
    return tiny_arrays.make(recipe, home)


def pool_of(artifacts: dict[str, Artifact], **settings: object) -> Pool:
    values = {"normal": ["row"], "marked": [3], "known_kinds": 1, "train_share": 0.6, **settings}
    return Pool(artifacts["ingest"].path, Config(task="anomaly", name="anomaly", **values), 0)  # type: ignore[arg-type]


def test_areas_are_of_each_kind_beside_all_normal_rows() -> None:
    """Normal rows score 0 and 2; of kind a both are above, of b one is between, of c it is below."""
    kinds = np.array(["usual", "usual", "a", "a", "b", "c"])
    truth = kinds != "usual"
    scores = np.array([0.0, 2.0, 3.0, 4.0, 1.0, -1.0])
    measured = Measurements(0.01)
    measured.add({"m": scores}, truth)
    measured.add_kinds({"m": scores}, truth, kinds, {"b"})
    assert measured.by_kind["m"] == {"a": [(1.0, False)], "b": [(0.5, True)], "c": [(0.0, False)]}
    assert measured.mean("m", KNOWN) == 0.5
    assert measured.mean("m", NEW) == pytest.approx(4 / 6), "a twice 2 of 2, c 0 of 2"
    assert measured.mean("m") == pytest.approx(5 / 8)


def test_a_classifiers_kinds_are_told_where_they_are_new() -> None:
    kinds = np.array(["usual", "a", "b"])
    truth = kinds != "usual"
    measured = Measurements(0.01)
    for known, score in (("a", 1.0), ("b", -1.0)):
        scores = {"knn": np.array([0, 1, score]), "logistic regression, 5 marked": np.array([0, 1, score])}
        measured.add(scores, truth)
        measured.add_kinds(scores, truth, kinds, {known})
    both, each = anomaly_kinds.tables(["a", "b"], [], measured)
    assert each.title == "AUROC of each kind (of classifiers: where it is new, if kinds are)"
    assert each.columns == ["method", "a", "b"]
    assert each.rows == [["knn", "100.0", "50.0"], ["logistic regression, 5 marked", "100.0", "100.0"]]
    assert both.title == "Kinds of anomalies that classifiers were given, and new ones"
    assert both.rows[0] == ["knn", "50.00 ± 70.71", "100.00 ± 0.00"]


def test_marked_anomalies_are_of_known_kinds_each_in_turn(artifacts: dict[str, Artifact]) -> None:
    pool = pool_of(artifacts)
    assert pool.kinds == ["column", "corner", "cross"]
    draws = [pool.draw(number) for number in range(6)]
    assert [len(draw.known_kinds) for draw in draws] == [1] * 6
    assert frozenset().union(*(draw.known_kinds for draw in draws[:3])) == set(pool.kinds)
    assert [draw.known_kinds for draw in draws[:3]] == [draw.known_kinds for draw in draws[3:]]
    for draw in draws:
        assert set(pool.labels[draw.marked]) == draw.known_kinds and len(draw.marked) == 3
        assert set(pool.labels[draw.test]) == {*MARKS}, "of known kinds, too, others are left to test on"
        parts = np.concatenate([draw.learn, draw.held_out, draw.marked, draw.test])
        assert sorted(parts) == list(range(len(pool.labels))), "each row once"


def test_known_kinds_do_not_change_what_is_learned_from(artifacts: dict[str, Artifact]) -> None:
    mine, plain = pool_of(artifacts).draw(1), pool_of(artifacts, known_kinds=0).draw(1)
    assert np.array_equal(mine.learn, plain.learn) and np.array_equal(mine.held_out, plain.held_out)
    assert not plain.known_kinds and len(plain.test) == len(mine.test)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"known_kinds": 3}, "are of 3 kinds, and 3 known ones"), ({"marked": [40]}, "leave none of them to test on")],
)
def test_draws_that_cannot_be_made_are_refused(
    artifacts: dict[str, Artifact], settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        pool_of(artifacts, **settings).draw(0)


def test_the_report_sets_known_kinds_beside_new_ones(artifacts: dict[str, Artifact]) -> None:
    report = whole_report(artifacts["anomaly"])
    assert "kinds.png" in [figure.file for figure in report.figures]
    both = table(report, "Kinds of anomalies that classifiers were given, and new ones")
    assert [row[0] for row in both.rows][:2] == ["**auto-encoder: standardised-error**", "knn"] and len(
        both.columns
    ) == 3
    name = "logistic regression, 3 marked"
    of = report.notes["methods"][name]
    assert np.mean(of[KNOWN]) > np.mean(of[NEW]) + 0.05, "what it was not shown, it does not know"
    assert all(len(of[what]) == 3 for what in (KNOWN, NEW))
    assert "on new kinds it has" in report.verdict
    assert said("1 of the 3 kinds (column, corner, cross)", report.about)
    assert {"auroc/ours_known_kinds", "auroc/classifier_new_kinds"} <= set(report.numbers)


def test_kinds_need_marked_anomalies(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"downstream\.0\.known_kinds: is of marked anomalies"):
        load(recipe, overrides=["downstream.0.marked=[]"])


def test_one_class_training_never_sees_another_picture(recipe: Path, home: Path, tmp_path: Path) -> None:
    from data_prep.shards.reader import Shards

    settings = ("data.train_on=normal", "data.normal=[row, corner]", "train.steps=2", "downstream=[]")
    artifacts = tiny_arrays.make(recipe, tmp_path, *settings)
    classes_of_split = {}
    for split in ("train", "test"):
        table = Shards(artifacts["shards"].path / split)
        classes = artifacts["ingest"].summary["classes"]
        labels = np.asarray(table.read(np.arange(table.rows))["label"])
        classes_of_split[split] = {classes[label] for label in labels.tolist()}
    assert classes_of_split == {"train": {"row", "corner"}, "test": {*MARKS}}
    with pytest.raises(UserError, match=r"data\.normal: no image has the label 'raw'"):
        tiny_arrays.make(recipe, tmp_path, *settings, "data.normal=[raw]")
    with pytest.raises(UserError, match=r"data\.train_on: normal needs labels that are normal"):
        load(recipe, overrides=["data.train_on=normal"])


def test_a_table_says_elsewhere_what_is_normal(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.normal: unknown key; did you mean data\.table\.normal\?"):
        load(tiny_arrays.recipe(tmp_path), overrides=["data.normal=[usual]"])
