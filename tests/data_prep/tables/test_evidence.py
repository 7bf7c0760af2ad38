from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.tables.schema import TableConfig
from tests.data_prep.arrays_input import columns_of, ingested, reasons


def table(folder: Path, columns: dict[str, list[Any]], name: str = "t.csv") -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def notes(folder: Path, columns: dict[str, list[Any]], **config: Any) -> tuple[dict[str, Any], list[str]]:
    summary = ingested(table(folder, columns), out=folder / "out", config=TableConfig(**config))
    return summary["schema"], summary["notes"]


NUMBERS = [round(0.37 * (number * 7919 % 101), 2) for number in range(60)]


@pytest.mark.parametrize(
    "marker", ["N/A", "None", "-", r"\N", "null", "NaN", "n/a", "<NA>", "#N/A", "--", ".", "nil", "NaT", "?", "NULL"]
)
def test_one_marker_among_numbers_is_a_missing_number(tmp_path: Path, marker: str) -> None:
    schema, said = notes(tmp_path, {"a": [*NUMBERS, marker], "b": ["x", "y", "z"] * 20 + ["x"]})
    assert schema["kinds"] == {"a": "numeric", "b": "categorical"}
    assert columns_of(tmp_path / "out")["a"] == [*NUMBERS, None]
    assert said == [f"column 'a': {marker!r} (1) is read as missing (data.table.missing says what is)"]


def test_zero_dates_are_missing(tmp_path: Path) -> None:
    days = [f"2024-01-{day:02d}" for day in range(1, 29)]
    schema, said = notes(tmp_path, {"a": [*days, "0000-00-00", "0000-00-00 00:00:00"], "b": [1, 2] * 15})
    assert schema["kinds"]["a"] == "date" and columns_of(tmp_path / "out")["a"][-2:] == [None, None]
    assert "'0000-00-00' (1), '0000-00-00 00:00:00' (1) are read as missing" in said[0]


def test_dashes_and_what_is_named_are_categories_or_missing(tmp_path: Path) -> None:
    columns = {"c": ["-", "x", "NA", "DE"] * 10, "n": [*NUMBERS[:38], "-999", "."]}
    schema, _ = notes(tmp_path, columns, missing={"c": []})
    assert columns_of(tmp_path / "out")["c"][:4] == ["-", "x", "NA", "DE"]  # Namibia
    schema, said = notes(tmp_path, columns, missing=["-999", "x"])
    assert columns_of(tmp_path / "out")["c"][:4] == ["-", None, None, "DE"]
    assert columns_of(tmp_path / "out")["n"][-2:] == [None, None]
    assert schema["missing"]["n"][-1] == "x" and "'x' (10), 'NA' (10) are read as missing" in said[0]


def test_a_kind_against_the_majority_is_told_with_the_odd_values(tmp_path: Path) -> None:
    schema, said = notes(tmp_path, {"a": [*NUMBERS, "abc", "about 7"], "b": ["x", "y"] * 31})
    assert schema["kinds"]["a"] == "categorical"
    assert said[0].startswith(
        "column 'a' is categorical, though 60 of 62 values are numbers: 'abc' (1), 'about 7' (1) are not; name markers"
    )
    schema, said = notes(tmp_path, {"a": [*NUMBERS, "abc", "about 7"], "b": ["x", "y"] * 31}, kinds={"a": "numeric"})
    assert schema["kinds"]["a"] == "numeric" and [position for position, _ in reasons(tmp_path / "out")] == [62, 63]
    days = [f"2024-01-{day:02d}" for day in range(1, 29)]
    _, said = notes(tmp_path, {"a": [*days, "soon"], "b": [1] * 28 + [2]})
    assert any("28 of 29 values are dates: 'soon' (1) is not" in note for note in said)


def test_money_is_numbers_and_what_it_is_read_as_is_told(tmp_path: Path) -> None:
    schema, said = notes(tmp_path, {"a": ["$1.50", "$2", "12 %", "3"] * 5, "b": list("xyzw") * 5})
    assert schema["kinds"]["a"] == "numeric" and columns_of(tmp_path / "out")["a"][:4] == [1.5, 2, 0.12, 3]
    assert said == ["column 'a' has 15 values such as '$1.50', which is read as 1.5"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["00017", "00420", "00017"] * 20, "has 60 values such as '00017', which is read as 17"),
        (["12:30", "00:05", "12:30"] * 20, "has 60 values such as '12:30', which is read as 45000"),
        (["PT5M", "PT1H", "PT5M"] * 20, "has 60 values such as 'PT5M', which is read as 300"),
        (["٣٤", "٥", "٣٤"] * 20, "has 60 values such as '٣٤', which is read as 34"),
        (["31.05.2024", "01.06.2024"] * 30, "is categorical, though its values look like dates ('31.05.2024')"),
        (["5/31/24 13:30", "6/1/24 09:00"] * 30, "is categorical, though its values look like dates ('5/31/24 13:30')"),
        (["2024-W22", "2024-W23"] * 30, "is categorical, though its values look like dates ('2024-W22')"),
        (["May 31, 2024", "Jun 1, 2024"] * 30, "is categorical, though its values look like dates ('May 31, 2024')"),
    ],
)
def test_what_a_column_is_read_as_is_told(tmp_path: Path, values: list[str], said: str) -> None:
    quoted = [f'"{value}"' for value in values]
    _, remarks = notes(tmp_path, {"a": quoted, "b": NUMBERS[: len(values)]})
    assert len(remarks) == 1 and remarks[0].startswith(f"column 'a' {said}")


def test_decimal_commas_are_found_and_told(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\n" + "1,5\tx\n1.234,25\ty\n3\tx\n" * 5)
    summary = ingested(tmp_path / "t.tsv", out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out")["a"] == [1.5, 1234.25, 3]
    assert summary["notes"] == ["column 'a' is read with decimal commas (10 values have one)"]
    (tmp_path / "t.tsv").write_text("a\tb\n" + "1,500\tx\n2,250\ty\n" * 5)
    marks: list[tuple[Any, float]] = [(None, 1500), (".", 1500), (",", 1.5)]
    for decimal, read in marks:
        config = TableConfig(decimal=decimal)
        ingested(tmp_path / "t.tsv", out=tmp_path / "again", config=config)
        assert columns_of(tmp_path / "again")["a"][0] == read


def test_ids_and_counters_are_not_learned(tmp_path: Path) -> None:
    rows = range(60)
    columns = {
        "name": [f"id-{number * 7919 % 1000}" for number in rows],
        "counter": [1000 + 3 * number for number in rows],
        "code": [number * 7919 % 104729 for number in rows],
        "day": [f"2024-0{1 + number // 28}-{1 + number % 28:02d}" for number in rows],
        "measure": [value + 0.001 * number for number, value in enumerate(NUMBERS)],
        "kind": ["x", "y", "z"] * 20,
    }
    schema, said = notes(tmp_path, columns)
    assert set(schema["unlearned"]) == {"name", "counter"}
    of_column = {note.split("'")[1]: note for note in said}
    assert set(of_column) == {"name", "counter", "code", "day"} and "not learned" in of_column["name"]
    assert "if these are names, drop it" in of_column["code"] and "only grows from row to row" in of_column["day"]
    schema, _ = notes(tmp_path, columns, kinds={"counter": "numeric"})
    assert set(schema["unlearned"]) == {"name"}  # a kind that is given is learned


def test_a_split_by_time_holds_out_the_latest_rows(tmp_path: Path) -> None:
    order = [number * 37 % 100 for number in range(100)]
    columns = {"t": [number / 4 - 7 for number in order], "a": [NUMBERS[number % 60] for number in order]}
    config = TableConfig(time="t")
    ingested(table(tmp_path, columns), out=tmp_path / "out", config=config, split=0.2)
    times = {split: columns_of(tmp_path / "out", split)["t"] for split in ("train", "validation", "test")}
    assert [len(values) for values in times.values()] == [60, 20, 20]
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])
    schema = ArrayCorpus(tmp_path / "out", "test").schema
    assert schema is not None and schema.time == "t"
    columns = {"t": ["2024-01-01", "", *(f"2023-02-{day:02d}" for day in range(1, 20))], "a": NUMBERS[:21]}
    ingested(table(tmp_path, columns), out=tmp_path / "dates", config=config, split=0.05)
    assert [value.year for value in columns_of(tmp_path / "dates", "test")["t"]] == [2024]
    assert reasons(tmp_path / "dates") == [(3, "column 't', by which rows are split, has no value")]
