"""A table is the same whatever format its file has: values, digests of rows, what is a duplicate."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.schema import TableSchema
from data_prep.tables.files import typed_batches
from data_prep.tables.schema import TableConfig
from data_prep.tables.typed import Typed
from tests.data_prep.arrays_input import columns_of, ingested, reasons
from tests.data_prep.tables.reading import file_of

ZONE = dt.timezone(dt.timedelta(hours=2))
_MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "large": (pa.int64(), st.sampled_from([2**53, 2**53 + 1, 2**60, 2**60 + 1, 10**15, 10**15 + 1])),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "byte": (pa.int8(), st.integers(-128, 127)),
    "float": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "single": (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32)),
    "half": (pa.float16(), st.floats(width=16, allow_nan=False, allow_infinity=False).map(np.float16)),
    "whole": (pa.float64(), st.integers(-(10**17), 10**17).map(float)),
    "decimal": (pa.decimal128(30, 4), st.decimals(-(10**20), 10**20, places=4, allow_nan=False)),
    "truth": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))),
    "second": (pa.timestamp("s"), _MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    "micro": (pa.timestamp("us"), _MOMENTS),
    "nano": (pa.timestamp("ns"), _MOMENTS),
    "zoned": (pa.timestamp("us", "+02:00"), _MOMENTS.map(lambda moment: moment.replace(tzinfo=ZONE))),
    "duration": (pa.duration("us"), st.timedeltas(dt.timedelta(-99), dt.timedelta(99))),
    "clock": (pa.time64("us"), st.times()),
    "word": (pa.string(), st.sampled_from(["x", "true", "True", "1.0", "1.10", "007", "a b", "é"])),
    "level": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["x", "y", "z"])),
}
AS_CATEGORIES = ("large", "decimal", "whole", "byte", "day", "micro", "single")


def written(value: Any) -> str:
    """As pandas and others write it."""
    return "" if value is None else str(value)


def put_csv(path: Path, table: dict[str, list[Any]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([table, *([written(value) for value in row] for row in zip(*table.values(), strict=True))])


def put_arff(path: Path, table: dict[str, list[Any]]) -> None:
    kinds = {"truth": "string", "word": "string", "level": "string"}
    kinds |= dict.fromkeys(("day", "second", "micro", "nano", "zoned"), "date")
    lines = ["@relation t", *(f"@attribute {name} {kinds.get(name, 'numeric')}" for name in table), "@data"]
    rows = zip(*table.values(), strict=True)
    lines += [",".join("?" if value is None else f"'{written(value)}'" for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def put_json(path: Path, table: dict[str, list[Any]]) -> None:
    """Numbers and truth as JSON has them, dates as text."""

    def value_of(value: Any) -> str:
        if value is None or isinstance(value, bool | str):
            return json.dumps(value)
        is_number = isinstance(value, int | float | Decimal | np.floating)
        return written(value) if is_number else json.dumps(written(value))

    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    lines = [", ".join(f"{json.dumps(name)}: {value_of(value)}" for name, value in row.items()) for row in rows]
    path.write_text("".join(f"{{{line}}}\n" for line in lines))


def test_rows_of_json_that_are_no_rows(tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": "x"}', "[1]", "{", '{"a": [1]}', '{"b": null}', '{"a": {"c": 1}}', '{"a": "\\ud800"}', ""]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    ingested(tmp_path / "t.jsonl", out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"a": [1, None], "b": ["x", None]}
    assert [position for position, _ in reasons(tmp_path / "out")] == [2, 3, 4, 6, 7]


def put_typed(path: Path, table: dict[str, list[Any]]) -> None:
    arrays = pa.table({name: pa.array(values, COLUMNS[name][0]) for name, values in table.items()})
    if path.suffix == ".parquet":
        pq.write_table(arrays.slice(0, len(arrays)), path, row_group_size=3)
    else:
        with pa.ipc.new_file(str(path), arrays.schema) as writer:
            writer.write_table(arrays)


WRITERS: dict[str, Callable[[Path, dict[str, list[Any]]], None]] = {
    "t.csv": put_csv,
    "t.tsv": lambda path, table: put_csv(path, table, "\t"),
    "t.jsonl": put_json,
    "t.arff": put_arff,
    "t.parquet": put_typed,
    "t.arrow": put_typed,
}


def rows_of(path: Path, schema: TableSchema) -> tuple[dict[str, list[Any]], list[Any]]:
    """Values, and digests of rows."""
    batches = list(typed_batches(file_of(path), schema))
    assert all(isinstance(batch, Typed) and not batch.odd for batch in batches), batches
    columns: dict[str, list[Any]] = {name: [] for name in schema.kinds}
    keys: list[Any] = []
    for batch in batches:
        assert isinstance(batch, Typed)
        for name, values in batch.columns.items():
            columns[name] += values.to_pylist()
        keys += content_keys(batch.columns, len(batch.positions), batch.beyond_float).tolist()
    return columns, keys


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data(), trained_on=st.sampled_from(list(WRITERS)))
def test_trained_on_one_format_and_scored_from_another(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, trained_on: str
) -> None:
    count = data.draw(st.integers(2, 6))
    table = {
        name: data.draw(st.lists(values, min_size=count, max_size=count).map(lambda v: [*v, None]), label=name)
        for name, (_, values) in COLUMNS.items()
    }
    folder = tmp_path_factory.mktemp("formats")
    for name, put in WRITERS.items():
        put(folder / name, table)
    config = TableConfig(kinds=dict.fromkeys((*AS_CATEGORIES, "word"), "categorical"))
    ingested(folder / trained_on, out=folder / "out", config=config)
    schema = ArrayCorpus(folder / "out", "train").schema
    assert schema is not None
    expected, expected_keys = rows_of(folder / trained_on, schema)
    for name in WRITERS:
        columns, keys = rows_of(folder / name, schema)
        assert {column: values for column, values in columns.items() if values != expected[column]} == {}, name
        assert keys == expected_keys


def test_true_is_one_where_the_training_data_write_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [True, False, None]}), tmp_path / "t.parquet")
    columns, _ = rows_of(tmp_path / "t.parquet", TableSchema({"a": "numeric"}))
    assert columns == {"a": [1, 0, None]}


@pytest.mark.parametrize("name", WRITERS)
def test_numbers_that_floats_confuse_are_no_duplicates(tmp_path: Path, name: str) -> None:
    """Cards of 17 digits, amounts of 30; only equal ones are copies."""
    cards = [2**60, 2**60 + 1, 2**60 + 1, -(2**60), -(2**60) - 1]
    amounts = [Decimal("12345678901234567890.1234")] * 3 + [Decimal("12345678901234567890.1235")] * 2
    WRITERS[name](tmp_path / name, {"large": cards, "decimal": amounts})
    summary = ingested(tmp_path / name, out=tmp_path / "out", config=TableConfig())
    assert (summary["kept"], summary["duplicates"]) == (4, 1)


def test_one_text_for_what_formats_write_differently(tmp_path: Path) -> None:
    table = {
        "decimal": [Decimal("12.5000"), Decimal("3.0000")],
        "truth": [True, False],
        "micro": [dt.datetime(2024, 5, 1)] * 2,
    }
    config = TableConfig(kinds=dict.fromkeys(table, "categorical"))  # type: ignore[arg-type]
    for name in WRITERS:
        WRITERS[name](tmp_path / name, table)
        ingested(tmp_path / name, out=tmp_path / f"{name}-out", config=config)
        expected = {"decimal": ["12.5", "3"], "truth": ["true", "false"], "micro": ["2024-05-01"] * 2}
        assert columns_of(tmp_path / f"{name}-out") == expected, name


@pytest.mark.parametrize(
    ("label", "normal"), [(["True", "False"], True), (["1.0", "0"], 1), (["1", "0"], "1.0"), (["None", "x"], "None")]
)
def test_labels_are_found_however_they_are_written(tmp_path: Path, label: list[str], normal: Any) -> None:
    put_csv(tmp_path / "t.csv", {"a": [1, 2, 3, 4], "label": label * 2})
    config = TableConfig(target="label", normal=[normal])
    ingested(tmp_path / "t.csv", out=tmp_path / "out", config=config)
    labels = [int(label) for batch in ArrayCorpus(tmp_path / "out", "train").batches() for label in batch.label]
    assert labels == [0, 1, 0, 1]
