"""Whatever lies outside of what was learned is above all normal rows, and the reasons say what it is."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpus.schema import TableSchema
from data_prep.tables.transform.transform import Transform, TransformConfig
from pipeline.scoring import score_files
from pipeline.scoring.drift import Baseline
from pipeline.scoring.row_detector import RowDetector, drift_columns
from training.config import NetworkConfig
from training.inference.anomaly import BOTH, DISTANCE, ERROR, LIKELIHOOD, STANDARDISED, Scorer, Usual
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.config import network_config
from training.models.autoencoders.vae import VariationalAutoencoder
from training.objectives.arrays.autoencoder import AutoencoderOptions
from training.objectives.arrays.vae import VaeOptions

SAMPLES = 5
SCALES = ("standard", "minmax", "quantile")
KINDS: dict[str, Any] = {
    **dict.fromkeys(("amount", "heavy", "gaps", "zero"), "numeric"),
    **dict.fromkeys(("colour", "land", "id"), "categorical"),
    "day": "date",
}
FIRST = datetime(2024, 1, 1)


def rows(count: int = 400, seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    gaps = rng.normal(size=count)
    return pa.record_batch(
        {
            "amount": pa.array(rng.uniform(0, 100, count)),
            "heavy": pa.array(np.exp(rng.normal(0, 2, count))),
            "gaps": pa.array(gaps, mask=rng.random(count) < 0.2),
            "zero": pa.array(np.zeros(count)),
            "colour": pa.array(rng.choice(["red", "green", "blue"], count)),
            "land": pa.array(["NO"] * count),
            "id": pa.array([f"id-{seed}-{number}" for number in range(count)]),
            "day": pa.array([FIRST + timedelta(hours=int(hour)) for hour in rng.integers(0, 2000, count)]),
        }
    )


@lru_cache
def detector(scale: str, score: str = STANDARDISED) -> RowDetector:
    """A network with random weights, which may think what it likes of values far from what it learned."""
    schema = TableSchema(KINDS, unlearned={"id": "it names rows"})
    config = TransformConfig(scale=scale, log=["heavy"])  # type: ignore[arg-type]
    train, held_out = rows(), rows(seed=1)
    transform = Transform.fit(lambda: [train], config, schema)
    torch.manual_seed(0)
    shape = (len(transform.features),)
    network = network_config(NetworkConfig(architecture="mlp", config={"bottleneck": 3}), shape)
    is_variational = score == LIKELIHOOD
    model = (
        VariationalAutoencoder(network, shape, VaeOptions())
        if is_variational
        else Autoencoder(network, shape, AutoencoderOptions())
    )
    scorer = Scorer.fit([model], transform.apply(train))
    normal = [
        (scorer.scores(transform.within(transform.apply(values)), SAMPLES)[score], transform.outside(values))
        for values in (train, held_out)
    ]
    made = RowDetector(scorer, score, 0.0, Baseline({}, {}), transform, SAMPLES, usual=Usual.of(*normal))
    inputs = made.inputs(held_out)
    normal = made.score(inputs).score  # type: ignore[assignment]
    baseline = Baseline.of(drift_columns(normal, transform, inputs))
    highest = float(max(normal.max(), made.score(made.inputs(train)).score.max()))
    return replace(made, threshold=highest, baseline=baseline)


def changed(column: str, values: list[Any], seed: int = 2) -> pa.RecordBatch:
    """Normal rows with values of one column replaced."""
    plain = rows(len(values), seed)
    place = plain.schema.get_field_index(column)
    return plain.set_column(place, column, pa.array(values, plain.schema.field(place).type))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("amount", None, "is missing, and never was"),
        ("amount", 60000.0, "is 60000, beyond 0."),
        ("amount", -1e30, "beyond"),
        ("amount", float("inf"), "is inf, beyond"),
        ("heavy", 1e300, "is 1e+300, beyond"),
        ("zero", 1.0, "is 1, and was always 0"),
        ("zero", -5.0, "is -5, and was always 0"),
        ("zero", None, "is missing, and never was"),
        ("colour", "violet", "is 'violet', which is new"),
        ("colour", None, "is missing, and never was"),
        ("land", "SE", "is 'SE', and was always 'NO'"),
        ("land", None, "is missing, and never was"),
        ("day", None, "is missing, and never was"),
        ("day", datetime(2029, 3, 1), "is 2029-03-01, beyond 2024-01-01"),
    ],
)
def test_what_is_outside_is_above_all_normal_rows(scale: str, column: str, value: Any, why: str) -> None:
    made = detector(scale)
    scores = made.score(made.inputs(changed(column, [value] * 30)))
    assert scores.flag.all()
    for reasons in scores.reasons:
        (named,) = [reason for reason in reasons if reason.column == column]
        assert why in named.why and 0 < named.share <= 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("column", ["amount", "heavy", "zero", "day"])
def test_further_is_more_unusual(scale: str, column: str) -> None:
    """All rows alike but for this value."""
    made = detector(scale)
    steps: list[Any] = [120.0, 1e3, 60000.0, 1e6, 1e15, 1e30, 1e300, float("inf")]
    if column == "day":
        steps = [datetime(2025, 1, 1), datetime(2025, 2, 1), datetime(2030, 1, 1), datetime(9999, 1, 1)]
    if column == "heavy":
        steps = steps[2:]
    alike = rows(1, seed=3).take(pa.array(np.zeros(len(steps), np.int64)))
    place = alike.schema.get_field_index(column)
    batch = alike.set_column(place, column, pa.array(steps, alike.schema.field(place).type))
    score = made.score(made.inputs(batch)).score
    usual = made.score(made.inputs(rows(1, seed=3))).score
    assert (np.diff(np.concatenate([usual, score])) > 0).all() and np.isfinite(score).all()


@pytest.mark.parametrize("score", [ERROR, STANDARDISED, DISTANCE, BOTH, LIKELIHOOD])
@settings(max_examples=15, deadline=None)
@given(
    scale=st.sampled_from(SCALES),
    column=st.sampled_from(["amount", "heavy", "gaps"]),
    distances=st.lists(st.floats(0, 1e30) | st.floats(0, 1e-3) | st.just(math.inf), min_size=8, max_size=20),
    is_low=st.booleans(),
    seed=st.integers(3, 9),
)
def test_scores_never_fall_as_a_value_moves_out(
    score: str, scale: str, column: str, distances: list[float], is_low: bool, seed: int
) -> None:
    """By any score, from the end of the range, the next number beyond it, to the infinite.

    Equal rows of a batch may differ by rounding: some processors' float32 products depend on a row's place in it.
    """
    made = detector(scale, score)
    values = np.array(distances)
    ends = np.array(rows()[column].drop_null())
    end = ends.min() if is_low else ends.max()
    beyond = [end, np.nextafter(end, -np.inf if is_low else np.inf), *(end - values if is_low else end + values)]
    beyond = sorted(beyond, reverse=is_low)
    alike = rows(1, seed=seed).take(pa.array(np.zeros(len(beyond), np.int64)))
    batch = alike.set_column(alike.schema.get_field_index(column), column, pa.array(beyond))
    scores = made.score(made.inputs(batch)).score
    assert (np.diff(scores) >= -1e-6 * np.abs(scores[:-1])).all()


def test_a_range_of_few_rows_is_less_sure() -> None:
    """As far outside, but the range rests on fewer values; far beyond is unusual in any case."""
    distances = []
    for count in (5, 50, 2000):
        learned = pa.record_batch({"n": np.linspace(0, 1, count)})
        transform = Transform.fit(lambda learned=learned: [learned])
        distances.append(transform.outside(pa.record_batch({"n": [1.0, 1.1, 2.0, 100.0]}))[:, 0])
    few, more, many = distances
    assert few[0] == more[0] == many[0] == 0
    assert (few[1:] < more[1:]).all() and (more[1:] < many[1:]).all()
    assert few[3] > 1 and many[2] == 1 and many[1] == pytest.approx(np.log2(1.1))


@pytest.mark.parametrize("scale", SCALES)
def test_names_of_rows_and_known_gaps_are_not_outside(scale: str) -> None:
    made = detector(scale)
    plain = rows(50, seed=2)
    for column, value in (("id", "never seen"), ("id", None), ("gaps", None)):
        inputs = made.inputs(changed(column, [value] * 50))
        assert not inputs.outside[:, plain.schema.names.index(column)].any()
    assert made.score(made.inputs(changed("id", ["x"] * 50))).score.tolist() == (
        made.score(made.inputs(plain)).score.tolist()
    )


def test_values_of_another_kind_are_scored_and_told(tmp_path: Path) -> None:
    made = detector("standard")
    (tmp_path / "t.csv").write_text(
        "amount,heavy,gaps,zero,colour,land,id,day\n"
        "50,1,0,0,red,NO,a,2024-01-05\n"
        "many,1,0,0,red,NO,a,2024-01-05\n"
        "50,1,0,0,red,NO,a,soon\n"
        "inf,1,0,0,red,NO,a,2024-01-05\n"
        "50,1,0,N/A,red,NO,a,2024-01-05\n"
        "50,1,x,0,red,NO,a,2024-01-05\n"
    )
    tally = score_files.Tally()
    batches: list[pa.RecordBatch] = []
    for file in score_files.files_of(made, [str(tmp_path / "t.csv")], tmp_path):
        batches += score_files.score_file(made, file, tally)
    rows = pa.Table.from_batches(batches).to_pylist()
    assert (tally.rows, tally.rejected) == (6, 0)
    assert [row["flag"] for row in rows] == [False, True, True, True, True, True]
    reasons = [{reason["column"]: reason["why"] for reason in row["reasons"] if reason["why"]} for row in rows]
    assert reasons[1:] == [
        {"amount": "is no number"},
        {"day": "is no date"},
        {"amount": reasons[3]["amount"]},
        {"zero": "is missing, and never was"},
        {"gaps": "is no number"},
    ]


def test_a_constant_that_changed_is_drift() -> None:
    made = detector("standard")
    for column, value in (("zero", 7.0), ("land", "SE"), ("amount", None)):
        inputs = made.inputs(changed(column, [value] * 100))
        scores = made.score(inputs)
        drift = made.baseline.drift(made.baseline.count(made.drift_columns(inputs, scores)))
        assert drift[f"{column}: outside"].beyond(0.25)
        assert not any(drift[f"{other}: outside"].beyond(0.25) for other in ("id", "colour"))


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5),
    low=st.floats(-1e3, 1e3),
    width=st.floats(0, 1e3),
    outside=st.lists(st.floats(0, 4096), min_size=2, max_size=6),
)
def test_scores_rise_with_the_distance(scores: list[float], low: float, width: float, outside: list[float]) -> None:
    usual = Usual(low, low + width, low + 2 * width)
    for score in scores:
        how_far = np.sort(np.array(outside))[:, None]
        raised = usual.raised(np.full(len(how_far), score), how_far)
        assert (np.diff(raised) >= 0).all() and (raised >= score).all()
        assert (raised[how_far[:, 0] >= 1] >= usual.top - 1e-6 * max(1, abs(score))).all()
        assert usual.raised(np.array([score]), np.zeros((1, 3)))[0] == score


def test_new_levels_count_for_less_where_they_are_usual() -> None:
    shops = [f"shop {number // 2 if number % 10 else number}" for number in range(500)]
    few = pa.record_batch({"c": pa.array(["x", "y"] * 250), "n": pa.array(np.arange(500.0)), "shop": pa.array(shops)})
    transform = Transform.fit(lambda: [few])
    new = pa.record_batch({"c": ["z"], "n": [1.0], "shop": ["another"]})
    c, _, shop = transform.outside(new)[0]
    assert c == 2 and 0 < shop < 0.5
    assert not transform.outside(few).any()  # also rare levels, which share a feature, are known
