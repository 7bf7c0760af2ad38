"""Rows and files of tables that cannot be used are refused alone, and told."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.errors import UserError
from data_prep.sources import records
from data_prep.tables import separated
from data_prep.tables.files import raw_batches
from data_prep.tables.schema import TableConfig
from tests.data_prep.arrays_input import columns_of, ingested, reasons, rejected, rows_of
from tests.data_prep.tables.reading import GOOD, VALUES, file_of, put, read


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1", "expected 3 fields, found 1"),
        (b"1,2,3,4", "expected 3 fields, found 4"),
        (b"1,\xff,3", "not UTF-8"),
        (b"1,a\0b,3", "NUL"),
        (b"1,a\rb,3", "carriage return|new-line character"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_bad_lines_are_refused_alone(tmp_path: Path, row: bytes, reason: str, quoted: bool) -> None:
    mark = b'"x"' if quoted else b"x"
    path = put(tmp_path, "t.csv", b"a,b,c\n1," + mark + b",2\n" + row + b"\n3,y,4\n")
    columns, rejects = read(path)
    assert columns[""] == [2, 4] and columns["b"] == ["x", "y"]
    assert [reject.position for reject in rejects] == [3]
    assert re.search(reason, rejects[0].reason)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"", "empty file"),
        ("t.csv", b"\n\n", "empty file"),
        ("t.csv", b"a,b\n", "no row below the header"),
        ("t.csv", b"a,a\n1,2\n", "more than one column is called 'a'"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "set the encoding of its source: utf-16"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16-le"), "set the encoding of its source: utf-16-le"),
        ("t.csv", b"a,\xff\n1,2\n", "the header is not UTF-8"),
        ("t.csv.gz", b"no gzip", "damaged gzip file"),
        ("t.parquet", b"PAR1 no more", "damaged file"),
        ("t.parquet", b"", "damaged file"),
        ("t.arrow", b"ARROW1", "damaged file"),
        ("t.arrow", b"", "damaged file"),
    ],
)
def test_files_that_cannot_be_read_are_one_reject(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    put(tmp_path, name, content)
    put(tmp_path, "z.csv", GOOD)
    summary = ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == VALUES
    (bad,) = rejected(tmp_path / "out")
    assert reason in bad["reason"] and bad["source"].endswith(name)
    assert summary["rows"] == 4


def test_parquet_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    table = pa.table({"a": [float(i) for i in range(20_000)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10_000, compression="gzip", use_dictionary=False)
    raw = bytearray((tmp_path / "t.parquet").read_bytes())
    middle = len(raw) * 3 // 4
    raw[middle : middle + 200] = bytes(200)
    (tmp_path / "t.parquet").write_bytes(bytes(raw))
    columns, rejects = read(tmp_path / "t.parquet")
    assert len(rejects) == 1 and "damaged file" in rejects[0].reason
    assert columns["a"] == [float(i) for i in range(len(columns["a"]))] and len(columns["a"]) >= 8192


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (pa.list_(pa.int64()), "holds list<"),
        (pa.struct([("x", pa.int64())]), "holds struct<"),
        (pa.binary(), "holds binary"),
    ],
)
def test_columns_of_no_kind_are_named(tmp_path: Path, kind: pa.DataType, reason: str) -> None:
    pq.write_table(pa.table({"a": [1.0], "odd": pa.nulls(1, kind)}), tmp_path / "t.parquet")
    columns, (reject,) = read(tmp_path / "t.parquet")
    assert not columns and reason in reject.reason and "data.table.drop" in reject.reason
    assert read(tmp_path / "t.parquet", drop=frozenset({"odd"}))[0]["a"] == [1.0]


def test_fields_and_lines_that_are_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1000)
    monkeypatch.setattr(separated, "BLOCK", 600)
    for quote in ("", '"'):
        long = f"a,b\n1,{quote}x{quote}\n2,{'y' * 3000}\n3,z\n"
        columns, rejects = read(put(tmp_path, f"t{len(quote)}.csv", long))
        assert columns[""] == [2, 4] and columns["b"] == ["x", "z"]
        assert [(reject.position, "longer than 1,000" in reject.reason) for reject in rejects] == [(3, True)]


def test_a_table_of_wrong_columns_is_refused_row_by_row(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "x,y\n1,2\n3,4\n")
    put(tmp_path, "b.csv", "y,x\n6,5\n")  # another order is no other table
    put(tmp_path, "c.csv", "x,z\n7,8\n")
    put(tmp_path, "d.csv", "x,y,z\n7,8,9\n")
    pq.write_table(pa.table({"x": [9], "w": [1]}), tmp_path / "e.parquet")
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"x": [1, 3, 5], "y": [2, 4, 6]}
    messages = [reason for _, reason in reasons(tmp_path / "out")]
    assert [f"{name!r} is" in reason for name, reason in zip("yzy", messages, strict=True)] == [True] * 3
    assert all("those of" in reason and "a.csv" in reason for reason in messages)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"target": "z"}, "data.table.target names the column 'z'"),
        ({"drop": ["z"]}, "data.table.drop names the column 'z'"),
        ({"kinds": {"z": "date"}}, "data.table.kinds names the column 'z'"),
        ({"target": "b", "drop": ["b"]}, "data.table.drop names the column 'b', which is data.table.target"),
        ({"drop": ["a", "b", "c"]}, "no column of"),
        ({"target": "b", "normal": ["q"]}, "no row has the label 'q'; there are 'x', 'y'"),
    ],
)
def test_settings_that_fit_no_column(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    path = put(tmp_path, "t.csv", GOOD)
    with pytest.raises(UserError, match=says):
        ingested(path, out=tmp_path / "out", config=TableConfig(**config))


def test_declared_kinds_refuse_what_does_not_fit(tmp_path: Path) -> None:
    text = "n,d,c\n1,2024-01-01,1\nx,2024-01-01,1\n2,soon,1\n3,2024-02-30,1\n-inf,2024-01-01,1\n1e999,2024-01-01,2\n"
    config = TableConfig(kinds={"n": "numeric", "d": "date", "c": "categorical"})
    ingested(put(tmp_path, "t.csv", text), out=tmp_path / "out", config=config)
    assert rows_of(tmp_path / "out") == [{"n": 1.0, "d": datetime(2024, 1, 1), "c": "1"}]
    assert reasons(tmp_path / "out") == [
        (3, "column 'n': expected a number, found 'x'"),
        (4, "column 'd': expected an ISO 8601 date, found 'soon'"),
        (5, "column 'd': expected an ISO 8601 date, found '2024-02-30'"),
        (6, "column 'n' is infinite ('-inf')"),
        (7, "column 'n' is infinite ('1e999')"),
    ]
    assert rejected(tmp_path / "out")[0]["excerpt"] == "x,2024-01-01,1"


def test_too_many_bad_rows_are_told(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", "a,b\n1,2\n3\n4\n5,6\n")
    with pytest.raises(
        UserError, match=r"(?<![\d.,])2 of 4 rows cannot be used, .*t\.csv row 3: expected 2 fields, found 1"
    ):
        ingested(path, out=tmp_path / "out", config=TableConfig(), max_rejects=1)
    ingested(path, out=tmp_path / "again", config=TableConfig(), max_rejects=2)


def test_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row is left of"):
        ingested(put(tmp_path, "t.csv", "a,b\n"), out=tmp_path / "out", config=TableConfig())
    with pytest.raises(UserError, match=r"holds no file whose name ends in one of .csv"):
        ingested(tmp_path / "out", out=tmp_path / "again", config=TableConfig())


def test_a_file_that_vanishes_or_changes(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", GOOD)
    planned = file_of(path)
    path.write_text(GOOD + "9,9,9\n")
    with pytest.raises(UserError, match="changed while it was read"):
        list(raw_batches(planned, None, frozenset()))
    path.unlink()
    with pytest.raises(UserError, match="went away"):
        list(raw_batches(planned, None, frozenset()))


def test_every_line_that_an_open_quote_takes_counts(tmp_path: Path) -> None:
    lines = [f"{number},x\n" for number in range(2, 302)]
    lines[100], lines[200] = '102,"x\n', "is no row\n"
    columns, rejects = read(put(tmp_path, "t.csv", "a,b\n" + "".join(lines)))
    assert len(columns["a"]) == 100 and len(rejects) == 200
    assert rejects[0].position == 102 and "not CSV" in rejects[0].reason
    assert {reject.reason for reject in rejects[1:]} == {"within the quotes that open in or after line 102"}
    assert [reject.position for reject in rejects] == list(range(102, 302))
