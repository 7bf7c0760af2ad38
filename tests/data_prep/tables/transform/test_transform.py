from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.schema import TableSchema
from data_prep.errors import UserError
from data_prep.sealed import sealed
from data_prep.tables.schema import TableConfig
from data_prep.tables.transform import fit as transform_fit
from data_prep.tables.transform.columns import REACH, symmetric_exp, symmetric_log
from data_prep.tables.transform.transform import Transform, TransformConfig
from tests.data_prep.arrays_input import ingested

FIRST = datetime(2024, 1, 1)


def batch(**columns: Sequence[Any]) -> pa.RecordBatch:
    arrays = {}
    for name, values in columns.items():
        first = next((value for value in values if value is not None), 0.0)
        kind = pa.string() if isinstance(first, str) else pa.timestamp("us") if isinstance(first, datetime) else None
        arrays[name] = pa.array(values, kind or pa.float64())
    return pa.record_batch(arrays)


def fit(rows: pa.RecordBatch, size: int | None = None, **config: Any) -> Transform:
    """In batches of a size; one in the middle is empty, as where all its rows were left out."""
    starts = range(0, rows.num_rows, size or max(1, rows.num_rows))
    parts = [rows.slice(start, size) for start in starts]
    parts.insert(len(parts) // 2, rows.slice(0, 0))
    return Transform.fit(lambda: parts, TransformConfig(**config))


def mixed(rows: int, seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    return batch(
        n=[None if rng.random() < 0.1 else float(value) for value in rng.normal(5, 3, rows)],
        heavy=np.exp(rng.normal(0, 3, rows)).tolist(),
        c=[None if value > 8 else "abcdefghij"[value] for value in rng.integers(0, 10, rows)],
        when=[FIRST + timedelta(hours=int(value)) for value in rng.integers(0, 20_000, rows)],
        same=[3.0] * rows,
    )


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_standard_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 1e-2, (500, 2)) * [1, 1e-8]
    transform = fit(batch(a=values[:, 0].tolist(), b=values[:, 1].tolist()), 64)
    features = transform.apply(batch(a=values[:, 0].tolist(), b=values[:, 1].tolist()))
    assert features.dtype == np.float32 and transform.features == ["a", "b"]
    np.testing.assert_allclose(features, StandardScaler().fit_transform(values), atol=1e-5)


def test_minmax_and_quantile() -> None:
    values = [0.0, 1.0, 2.0, 10.0]
    features = fit(batch(a=values), scale="minmax").apply(batch(a=[*values, 20.0]))
    np.testing.assert_allclose(features[:, 0], [0, 0.1, 0.2, 1, 2], atol=1e-6)  # beyond the extremes it is not cut off
    rng = np.random.default_rng(0)
    skewed = np.exp(rng.normal(0, 2, 5000))
    transform = fit(batch(a=skewed.tolist()), scale="quantile")
    features = transform.apply(batch(a=np.sort(skewed).tolist()))[:, 0]
    np.testing.assert_allclose(features, np.linspace(0, 1, 5000), atol=2e-3)
    assert (transform.apply(batch(a=[-9.0, 1e9])) == [[0], [1]]).all()
    back = np.array(transform.invert(features[:, None])["a"])
    np.testing.assert_allclose(back, np.sort(skewed), rtol=0.05, atol=0.05)
    ties = fit(batch(a=[0.0] * 60 + [1.0, 2.0, 3.0, 4.0]), scale="quantile")
    assert 0.4 < ties.apply(batch(a=[0.0]))[0, 0] < 0.55  # the middle of equal values


def test_missing_numbers() -> None:
    rows = batch(a=[1.0, None, 3.0, 8.0], b=[1.0, 2.0, 3.0, 4.0])
    transform = fit(rows)
    assert transform.features == ["a", "a: missing", "b"] and transform.columns_of == ["a", "a", "b"]
    features = transform.apply(batch(a=[3.0, None, float("nan")], b=[None, 2.5, 2.5]))
    np.testing.assert_array_equal(features[:, 0], features[0, 0])  # the median stands for what is missing
    assert features[:, 1].tolist() == [0, 1, 1]
    np.testing.assert_allclose(features[:, 2], 0, atol=1e-7)
    mean = fit(rows, fill="mean", indicators="never")
    assert mean.features == ["a", "b"]
    np.testing.assert_allclose(mean.apply(batch(a=[4.0, None], b=[1.0, 1.0]))[:, 0], 0, atol=1e-7)
    assert fit(rows, indicators="always").features == ["a", "a: missing", "b", "b: missing"]


def test_columns_from_which_nothing_can_be_learned() -> None:
    rows = batch(a=[1.0, 2.0], gone=[None, None], same=[7.0, 7.0], word=["x", "x"], day=[FIRST, FIRST])
    transform = fit(rows)
    assert transform.features == ["a"]
    assert transform.dropped == {
        "gone": "it is always missing",
        "same": "it is always the same",
        "word": "it is always the same",
        "day": "it is always the same",
    }
    assert transform.invert(transform.apply(rows)).to_pylist() == rows.to_pylist()
    half = fit(batch(a=[1.0, 2.0, 3.0], same=[7.0, None, 7.0]))
    assert half.features == ["a", "same: missing"]  # that it is missing can be learned
    assert half.invert(half.apply(batch(a=[1.0, 1.0], same=[None, 7.0])))["same"].to_pylist() == [None, 7.0]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (batch(a=[]), "no training rows"),
        (batch(a=[1.0, 1.0]), "no column of the training rows varies"),
        (batch(a=[-1e308, 1e308, 0.0]), "cannot be scaled"),
        (batch(a=[0.0, 5e-324]), "cannot be scaled"),
    ],
)
def test_tables_that_cannot_be_fitted(rows: pa.RecordBatch, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fit(rows)
    with pytest.raises(UserError, match=r"data\.transform\.log names 'z'"):
        fit(batch(a=[1.0, 2.0]), log=["z"])


def test_values_far_away_stay_finite() -> None:
    transform = fit(batch(a=[0.0, 1e-300, 1.0], b=[1.0, 2.0, 3.0]))
    features = transform.apply(batch(a=[1e308, -1e308], b=[float("inf"), float("-inf")]))
    b = fit(batch(b=[1.0, 2.0, 3.0])).apply(batch(b=[3.0 + 2 * REACH, 1.0 - 2 * REACH]))
    assert np.isfinite(features).all() and features[:, 1].tolist() == b[:, 0].tolist()


def test_logarithms() -> None:
    rng = np.random.default_rng(0)
    rows = batch(
        normal=rng.normal(0, 1, 4000).tolist(),
        uniform=rng.random(4000).tolist(),
        heavy=(-np.exp(rng.normal(0, 3, 4000))).tolist(),
        spikes=[0.0] * 3990 + [1e6] * 10,
    )
    transform = fit(rows, log="auto")
    logs = {column.name for column in transform.columns if getattr(column, "log", False)}
    assert logs == {"heavy", "spikes"}
    values = np.array(rows["heavy"])
    expected = symmetric_log(values)
    np.testing.assert_allclose(transform.apply(rows)[:, 2], (expected - expected.mean()) / expected.std(), atol=1e-4)
    np.testing.assert_allclose(
        np.array(transform.invert(transform.apply(rows).astype(np.float64))["heavy"]), values, rtol=1e-3
    )
    assert [column.log for column in fit(rows, log=["uniform"]).columns] == [False, True, False, False]  # type: ignore[union-attr]
    np.testing.assert_allclose(symmetric_exp(symmetric_log(np.array([-5.0, 0, 1e9]))), [-5, 0, 1e9])


# -- categories and dates ---------------------------------------------------------------------------------------------


def test_categories() -> None:
    rows = batch(c=["b"] * 50 + ["a"] * 48 + ["rare"] + [None])
    transform = fit(rows, min_share=0.05)
    assert transform.features == ["c=a", "c=b", "c: other", "c: missing"]
    features = transform.apply(batch(c=["a", "b", "rare", "unseen", None]))
    assert features.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert transform.invert(features)["c"].to_pylist() == ["a", "b", "other", "other", None]
    plain = fit(batch(c=["a", "b"]))
    assert plain.apply(batch(c=[None, "z", "b"])).tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]
    many = fit(batch(c=[f"{n % 30}" for n in range(100)]), max_levels=5)
    assert many.features == ["c=0", "c=1", "c=2", "c=3", "c=4", "c: other"]  # the most frequent, ties by name
    names = fit(batch(a=[1.0, 2.0], c=["u", "v"]), min_share=0.6)
    assert names.features == ["a"] and "rarer than min_share" in names.dropped["c"]


def test_a_category_of_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transform_fit, "_MAX_VALUES", 10)
    with pytest.raises(UserError, match=r"column 'c' has more than 10 different values.*data\.table\.drop"):
        fit(batch(c=[f"{n}" for n in range(20)]), 4)


def test_dates() -> None:
    days = [FIRST + timedelta(days=n) for n in range(0, 400, 7)]
    transform = fit(batch(d=days))
    assert transform.features == ["d", "d: month sin", "d: month cos", "d: weekday sin", "d: weekday cos"]
    features = transform.apply(batch(d=days))
    np.testing.assert_allclose(features[:, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(features[:, 0].std(), 1, atol=1e-5)
    assert features[0, 1:3].tolist() == [0, 1]  # January
    np.testing.assert_allclose(features[:, 3:], [[0, 1]] * len(days), atol=1e-6)  # all are Mondays
    assert [
        abs(a - b) < timedelta(minutes=5)
        for a, b in zip(transform.invert(features)["d"].to_pylist(), days, strict=True)
    ]
    hours = fit(batch(d=[FIRST, FIRST + timedelta(hours=6), None]))
    assert hours.features[-3:] == ["d: hour sin", "d: hour cos", "d: missing"]
    features = hours.apply(batch(d=[FIRST + timedelta(hours=6), None]))
    np.testing.assert_allclose(features[0, -3:], [1, 0, 0], atol=1e-6)
    assert features[1].tolist() == [0] * 7 + [1]
    assert hours.invert(features)["d"].to_pylist() == [FIRST + timedelta(hours=6), None]


# -- what does not matter ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 300),
    size=st.integers(1, 301),
    seed=st.integers(0, 99),
    scale=st.sampled_from(["standard", "minmax", "quantile"]),
    sample=st.sampled_from([32, 1 << 17]),
)
def test_batches_and_the_order_of_rows_do_not_matter(rows: int, size: int, seed: int, scale: str, sample: int) -> None:
    """How rows come in batches changes no bit; their order only the last bits of means."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform_fit, "SAMPLE", sample)
        patch.setattr(transform_fit.Moments, "BLOCK", 16)
        table = mixed(max(rows, 2), seed)
        config: dict[str, Any] = {"scale": scale, "log": "auto"}
        whole = fit(table, **config)
        assert fit(table, size, **config).to_json() == whole.to_json()
        order = np.random.default_rng(seed).permutation(table.num_rows)
        shuffled = fit(table.take(pa.array(order)), size, **config)
    assert shuffled.features == whole.features
    features = whole.apply(table)
    np.testing.assert_allclose(shuffled.apply(table), features, rtol=1e-4, atol=1e-4)
    one_by_one = [whole.apply(table.slice(row, 1)) for row in range(table.num_rows)]
    np.testing.assert_array_equal(np.concatenate(one_by_one), features)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40, unique=True),
    factor=st.floats(1e-3, 1e3),
    shift=st.floats(-1e3, 1e3),
)
def test_the_unit_of_a_number_does_not_matter(values: list[float], factor: float, shift: float) -> None:
    numbers = np.array(values)
    if numbers.std() < 1e-3:
        return
    other = numbers * factor + shift
    features = [fit(batch(a=column.tolist())).apply(batch(a=column.tolist())) for column in (numbers, other)]
    np.testing.assert_allclose(features[0], features[1], rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999), scale=st.sampled_from(["standard", "minmax"]), fill=st.sampled_from(["mean", "median"])
)
def test_features_go_back_to_columns(seed: int, scale: str, fill: str) -> None:
    table = mixed(80, seed)
    transform = fit(table, scale=scale, fill=fill, min_share=0)
    back = transform.invert(transform.apply(table).astype(np.float64))
    assert back.schema.names == table.schema.names
    for name in ("n", "heavy"):
        expected = np.array(table[name].fill_null(float("nan")))
        spread = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(np.array(back[name].fill_null(float("nan"))), expected, atol=1e-5 * spread)
    assert back["c"].to_pylist() == table["c"].to_pylist()
    assert back["same"].to_pylist() == table["same"].to_pylist()
    for actual, expected in zip(back["when"].to_pylist(), table["when"].to_pylist(), strict=True):
        assert abs(actual - expected) < timedelta(minutes=30)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_infinity=True)), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=1, max_size=5),
)
def test_nothing_that_a_row_holds_is_an_error(numbers: list[Any], words: list[Any]) -> None:
    rows = max(len(numbers), len(words))
    numbers, words = (values + [None] * (rows - len(values)) for values in (numbers, words))
    moments = [None, *[datetime(1, 1, 1), datetime(9999, 12, 31)] * rows][:rows]
    table = pa.record_batch(
        {
            "n": pa.array(numbers, pa.float64()),
            "heavy": pa.array(numbers, pa.float64()),
            "c": pa.array(words, pa.string()),
            "when": pa.array(moments, pa.timestamp("us")),
            "same": pa.array(numbers, pa.float64()),
        }
    )
    for scale in ("standard", "quantile"):
        transform = fit(mixed(50), scale=scale)
        features = transform.apply(table)
        assert features.shape == (rows, len(transform.features)) and np.isfinite(features).all()
        assert transform.invert(features).num_rows == rows


def test_one_row() -> None:
    with pytest.raises(UserError, match="no column of the training rows varies"):
        fit(mixed(1))
    assert fit(mixed(100)).apply(mixed(1)).shape[0] == 1
    assert fit(mixed(100)).apply(mixed(1).slice(0, 0)).shape[0] == 0


# -- files ------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    table = mixed(200)
    schema = TableSchema({"n": "numeric"}, "label", ("ok",), None)
    for scale in ("standard", "quantile"):
        transform = Transform.fit(lambda: [table], TransformConfig(scale=scale, log="auto"), schema)  # type: ignore[arg-type]
        transform.save(tmp_path / "transform.json")
        back = Transform.load(tmp_path / "transform.json")
        assert back.columns == transform.columns and back.features == transform.features and back.schema == schema
        np.testing.assert_array_equal(back.apply(table), transform.apply(table))
    text = (tmp_path / "transform.json").read_text()
    (tmp_path / "transform.json").write_text(text.replace("0.5", "0.6", 1))
    with pytest.raises(UserError, match="no transform that can be used"):
        Transform.load(tmp_path / "transform.json")
    (tmp_path / "other.json").write_bytes(sealed({**json.loads(text), "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Transform.load(tmp_path / "other.json")
    with pytest.raises(UserError, match="no transform"):
        Transform.load(tmp_path / "absent.json")


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    transform = fit(batch(a=[1.0, 2.0], d=[FIRST, FIRST + timedelta(1)]))
    with pytest.raises(UserError, match="no column 'd'"):
        transform.apply(batch(a=[1.0]))
    with pytest.raises(UserError, match="expected numbers, found 'x'"):
        transform.apply(batch(a=["x"], d=[FIRST]))
    with pytest.raises(UserError, match="expected dates, found 'x'"):
        transform.apply(batch(a=[1.0], d=["x"]))
    assert transform.apply(batch(more=["x"], d=[FIRST], a=["2"])).shape == (1, 6)  # any order; text that is a number
    with pytest.raises(ValueError, match=r"expected \[R, 6\]"):
        transform.invert(np.zeros((2, 3)))


def test_fitted_on_the_training_rows_of_a_corpus(tmp_path: Path) -> None:
    lines = [f"{n * 0.1},{'xyz'[n % 3]},2024-01-{n % 28 + 1:02d},{n % 2}" for n in range(300)]
    (tmp_path / "t.csv").write_text("n,c,d,label\n" + "\n".join(lines))
    ingested(tmp_path / "t.csv", out=tmp_path / "out", config=TableConfig(target="label"), split=0.2)
    train, test = ArrayCorpus(tmp_path / "out"), ArrayCorpus(tmp_path / "out", "test")
    transform = Transform.fit(lambda: (rows.input for rows in train.batches()), schema=train.schema)  # type: ignore[misc]
    features = np.concatenate([transform.apply(rows.input) for rows in train.batches(50)])  # type: ignore[arg-type]
    place = transform.features.index("n")
    np.testing.assert_allclose([features[:, place].mean(), features[:, place].std()], [0, 1], atol=1e-5)
    held_out = np.concatenate([transform.apply(rows.input) for rows in test.batches()])  # type: ignore[arg-type]
    assert abs(held_out[:, place].mean()) > 1e-5 and "label" not in transform.columns_of
