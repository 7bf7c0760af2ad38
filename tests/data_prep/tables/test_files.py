from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.arrow import pc
from data_prep.corpus.schema import TableSchema
from data_prep.errors import UserError
from data_prep.ingest import ingest
from data_prep.kinds import kind_of
from data_prep.sources import records
from data_prep.sources.archives import SourceFile, listed
from data_prep.sources.config import SourceConfig, stamp_of
from data_prep.sources.records import Reject
from data_prep.tables import separated
from data_prep.tables.files import accepts, raw_batches, typed_batches
from data_prep.tables.kind import TableData
from data_prep.tables.layouts import LAYOUTS
from data_prep.tables.schema import TableConfig
from data_prep.tables.typed import Typed
from tests.data_prep.arrays_input import columns_of, ingested, reasons, rejected, rows_of

GOOD = "a,b,c\n1,x,2024-05-01\n2.5,y,2024-05-02 10:00\n,?,NA\n"
VALUES = {
    "a": [1.0, 2.5, None],
    "b": ["x", "y", None],
    "c": [datetime(2024, 5, 1), datetime(2024, 5, 2, 10), None],
}


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def file_of(path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(str(path), path.name, status.st_size, stamp_of(status.st_size, str(status.st_mtime_ns)))


def read(path: Path, **settings: Any) -> tuple[dict[str, list[Any]], list[Reject]]:
    """Columns as the reader gives them, with the positions as column ''."""
    columns: dict[str, list[Any]] = {}
    rejects = []
    for batch in raw_batches(file_of(path), settings.get("layout"), settings.get("drop", frozenset())):
        if isinstance(batch, Reject):
            rejects.append(batch)
            continue
        for name, values in {"": pa.array(batch.positions), **batch.columns}.items():
            columns.setdefault(name, []).extend(values.to_pylist())
    return columns, rejects


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", GOOD.encode()),
        ("t.csv", b"\xef\xbb\xbf" + GOOD.encode()),
        ("t.csv", GOOD.replace("\n", "\r\n").encode()),
        ("t.csv", GOOD.rstrip("\n").encode()),
        ("t.csv", GOOD.replace("\n", "\n\n").encode()),
        ("t.csv", GOOD.replace("x", '"x"').encode()),
        ("t.csv", b'"a","b","c"\n"1","x","2024-05-01"\n"2.5","y","2024-05-02 10:00"\n"","?","NA"\n'),
        ("t.csv", GOOD.replace("1,x", " 1 , x ").encode()),
        ("t.tsv", GOOD.replace(",", "\t").encode()),
        ("t.csv.gz", gzip.compress(GOOD.encode())),
        ("t.csv.bz2", bz2.compress(GOOD.encode())),
        ("t.csv.xz", lzma.compress(GOOD.encode())),
        ("t.tsv.gz", gzip.compress(GOOD.replace(",", "\t").encode())),
    ],
)
def test_however_it_is_written_it_is_the_same_table(tmp_path: Path, name: str, content: bytes) -> None:
    path = put(tmp_path, name, content)
    summary = ingested(path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == VALUES
    assert summary["schema"]["kinds"] == {"a": "numeric", "b": "categorical", "c": "date"}


def test_typed_files_say_their_kinds(tmp_path: Path) -> None:
    utc = UTC
    table = pa.table(
        {
            "int": pa.array([1, None, 3]),
            "small": pa.array([1.5, float("nan"), 2.5], pa.float32()),
            "decimal": pa.array([Decimal("1.25"), None, Decimal("2.50")]),
            "flag": [True, None, False],
            "code": ["01", "02", None],  # no number: the file says it is text, but all its values are numbers
            "level": pa.array(["b", None, "a"]).dictionary_encode(),
            "day": [date(2024, 1, 1), None, date(2024, 1, 2)],
            "moment": pa.array([datetime(2024, 1, 1, 12, tzinfo=utc), None, None], pa.timestamp("ns", "UTC")),
            "empty": pa.nulls(3),
            "list": [[1], [2], [3]],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.OSFile(str(tmp_path / "f.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    config = TableConfig(drop=["list"], kinds={"code": "categorical"})
    for name in ("t.parquet", "f.arrow", "s.arrow"):
        out = tmp_path / f"out-{name}"
        summary = ingested(tmp_path / name, out=out, config=config)
        columns = columns_of(out)
        assert columns["int"] == [1.0, None, 3.0]
        assert columns["small"] == [1.5, None, 2.5]
        assert columns["decimal"] == [1.25, None, 2.5]
        assert columns["flag"] == ["true", None, "false"]
        assert columns["code"] == ["01", "02", None]
        assert columns["level"] == ["b", None, "a"]
        assert columns["day"] == [datetime(2024, 1, 1), None, datetime(2024, 1, 2)]
        assert columns["moment"][0] == datetime(2024, 1, 1, 12)
        assert columns["empty"] == [None] * 3
        assert summary["schema"]["kinds"]["empty"] == "numeric"
        assert "list" not in columns


def test_arff(tmp_path: Path) -> None:
    text = """% a comment
@RELATION weather

@attribute outlook {sunny, 'very rainy', "it's"}
@attribute 'wind speed' REAL
@ATTRIBUTE when date "yyyy-MM-dd HH:mm"
@attribute note string
@attribute class {yes,no}
@data
sunny, 3.5, '2024-01-02 03:04', 'a, b', yes
% another comment
'very rainy', ?, ?, "say \\"hi\\"", no
"it's", 1e3, "2024-01-03", ?, yes
"""
    summary = ingested(put(tmp_path, "t.arff", text), out=tmp_path / "out", config=TableConfig(target="class"))
    assert columns_of(tmp_path / "out") == {
        "outlook": ["sunny", "very rainy", "it's"],
        "wind speed": [3.5, None, 1000.0],
        "when": [datetime(2024, 1, 2, 3, 4), None, datetime(2024, 1, 3)],
        "note": ["a, b", 'say "hi"', None],
    }
    assert summary["classes"] == ["no", "yes"]
    assert summary["schema"]["kinds"]["note"] == "categorical"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{1 2}", "sparse row"),
        ("1", "expected 2 values, found 1"),
        ("1, c", "'c' is not one of its declared values"),
        ("'1, a", "quote is not closed"),
        ("1, 'a' b", "quote is not closed, or something follows"),
        ("x, a", "expected a number, found 'x'"),
        ("inf, a", "is infinite"),
        ("1\0, a", "NUL"),
    ],
)
def test_bad_rows_of_arff(tmp_path: Path, row: str, reason: str) -> None:
    text = f"@relation r\n@attribute n numeric\n@attribute c {{a,b}}\n@data\n1,a\n{row}\n2,b\n"
    ingested(put(tmp_path, "t.arff", text), out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"n": [1.0, 2.0], "c": ["a", "b"]}
    ((position, message),) = reasons(tmp_path / "out")
    assert position == 6 and reason in message


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "empty file"),
        ("@relation r\n", "no @data"),
        ("@relation r\n@data\n1\n", "no @attribute"),
        ("@attribute a numeric\n@attribute a real\n@data\n", "more than one"),
        ("@attribute a relational\n@data\n", "of type 'relational'"),
        ("@attribute a\n@data\n", "not an attribute"),
        ("@attribute a {x\n@data\n", "cannot be read"),
        ("@attribute a numeric\n1,2\n", "expected @relation"),
        ("@attribute a numeric\n@data\n% none\n", "no row below"),
    ],
)
def test_bad_headers_of_arff(tmp_path: Path, header: str, reason: str) -> None:
    columns, ((reject),) = read(put(tmp_path, "t.arff", header))
    assert not columns and reason in reject.reason and reject.position >= 1


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


def test_files_of_different_kinds_make_one_table(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "n,c\n1,5\n2,x\n")
    pq.write_table(pa.table({"n": [3, 4], "c": [6.0, 7.5]}), tmp_path / "b.parquet")
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"n": [1, 2, 3, 4], "c": ["5", "x", "6", "7.5"]}


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


def test_rows_to_be_scored_have_the_columns_of_a_schema(tmp_path: Path) -> None:
    schema = TableSchema({"n": "numeric", "c": "categorical"}, target="label", normal=("ok",))
    path = put(tmp_path, "t.csv", "more,c,n\n1,a,2\n1,b,x\n")
    (rows,) = typed_batches(file_of(path), schema)
    assert isinstance(rows, Typed) and rows.columns["n"].to_pylist() == [2.0, None] and rows.label.null_count == 2
    assert {name: odd.tolist() for name, odd in rows.odd.items()} == {"n": [False, True]}  # kept, for it is unusual
    (reject,) = typed_batches(file_of(put(tmp_path, "u.csv", "c\na\n")), schema)
    assert isinstance(reject, Reject) and "'n' is missing" in reject.reason


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=8), delimiter=st.sampled_from(",\t"))
def test_what_a_csv_writer_wrote_is_read(tmp_path_factory: pytest.TempPathFactory, rows: Any, delimiter: str) -> None:
    """Whatever way is taken: by the block, or one by one."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("a", "b"), *rows])
    folder = tmp_path_factory.mktemp("t")
    path = put(folder, "t.csv" if delimiter == "," else "t.tsv", text.getvalue())
    columns, rejects = read(path)
    expected = [tuple(_value(cell) for cell in row) for row in rows]
    assert not rejects
    assert list(zip(columns["a"], columns["b"], strict=True)) == expected


def _value(cell: str) -> str | None:
    trimmed = pc.utf8_trim_whitespace(pa.array([cell]))[0].as_py()
    return trimmed or None


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), block=st.integers(1, 50))
def test_any_bytes_are_rows_or_rejects(tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separated, "BLOCK", block)
        folder = tmp_path_factory.mktemp("t")
        for name in ("t.csv", "t.arff", "t.tsv"):
            columns, rejects = read(put(folder, name, b"a,b\n" + content if name == "t.csv" else content))
            assert rejects or columns
            assert len({len(values) for values in columns.values()}) <= 1


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.sampled_from(["1,2", "1", "é,x", '"q,1",2', "", "a,b,c", " 3 ,NA", '"x\ny",1']), max_size=30),
    block=st.integers(1, 40),
)
def test_blocks_do_not_show(tmp_path_factory: pytest.TempPathFactory, rows: list[str], block: int) -> None:
    path = put(tmp_path_factory.mktemp("t"), "t.csv", "a,b\n" + "\n".join(rows))
    whole = read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separated, "BLOCK", block)
        cut = read(path)
    assert cut[0] == whole[0] and sorted(r.position for r in cut[1]) == sorted(r.position for r in whole[1])


def test_suffixes_of_any_case_are_read(tmp_path: Path) -> None:
    wanted = read(put(tmp_path, "t.csv", GOOD))
    assert read(put(tmp_path, "T.CSV", GOOD)) == wanted
    assert all(map(accepts(None).readable, ("T.CSV.GZ", "A.Parquet", "B.ZIP")))
    columns, rejects = read(put(tmp_path, "T.CSV.GZ", gzip.compress(GOOD.encode())))
    assert (columns, rejects) == wanted


def test_every_line_that_an_open_quote_takes_counts(tmp_path: Path) -> None:
    lines = [f"{number},x\n" for number in range(2, 302)]
    lines[100], lines[200] = '102,"x\n', "is no row\n"
    columns, rejects = read(put(tmp_path, "t.csv", "a,b\n" + "".join(lines)))
    assert len(columns["a"]) == 100 and len(rejects) == 200
    assert rejects[0].position == 102 and "not CSV" in rejects[0].reason
    assert {reject.reason for reject in rejects[1:]} == {"within the quotes that open in or after line 102"}
    assert [reject.position for reject in rejects] == list(range(102, 302))


def test_how_files_are_written_is_kept_for_those_to_be_scored(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "a^b\n1^é\n2^y\n3^z\n".encode("cp1252"))
    source = SourceConfig(path=str(tmp_path / "a.csv"), encoding="cp1252", delimiter="^")
    data = TableData(kind="table", sources=[source], max_rejects=0)
    summary = ingest(kind_of("table"), data, 0, tmp_path / "out", tmp_path / "d")
    schema = TableSchema.of_json(summary["schema"])
    assert (summary["kept"], schema.encoding, schema.delimiter) == (3, "cp1252", "^")
    assert TableSchema.of_json(schema.to_json()) == schema
    assert not {"encoding", "delimiter"} & TableSchema({"a": "numeric"}).to_json().keys()
    again = SourceConfig(path=source.path, encoding=schema.encoding, delimiter=schema.delimiter)
    [file] = listed(again, accepts(None), tmp_path)
    [batch] = typed_batches(file, schema)
    assert isinstance(batch, Typed) and batch.columns["b"].to_pylist() == ["é", "y", "z"]


def test_what_is_to_be_scored_may_hold_anything_beside(tmp_path: Path) -> None:
    schema = TableSchema({"a": "numeric"}, None, None, None)
    lists = pa.table({"a": [1.0, 2.0], "l": [[1], [2, 3]]})
    pq.write_table(lists, tmp_path / "t.parquet")
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), lists.schema) as writer:
        writer.write(lists)
    put(tmp_path, "t.csv", "x,a,x\n9,1,9\n9,2,9\n")
    for name in ("t.parquet", "t.arrow", "t.csv"):
        [batch] = typed_batches(file_of(tmp_path / name), schema)
        assert isinstance(batch, Typed) and batch.columns["a"].to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_dates_that_no_calendar_has_are_odd(tmp_path: Path, unit: str) -> None:
    stamps = pa.array([0, 2**63 - 1, -(2**63), None], pa.int64()).cast(pa.timestamp(unit))
    days = pa.array([0, 1, 2, 2**31 - 1], pa.int32()).cast(pa.date32())
    table = pa.table({"t": stamps, "d": days})
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write(table)
    schema = TableSchema({"t": "date", "d": "date"}, None, None, None)
    (rows,) = typed_batches(file_of(tmp_path / "t.arrow"), schema)
    assert isinstance(rows, Typed) and rows.columns["t"].null_count == 3 and rows.columns["d"].null_count == 1
    assert rows.odd["t"].tolist() == [False, True, True, False] and rows.odd["d"].tolist() == [False] * 3 + [True]
    ingested(tmp_path / "t.arrow", out=tmp_path / "out", config=TableConfig())
    assert rows_of(tmp_path / "out") == [{"t": datetime(1970, 1, 1), "d": datetime(1970, 1, 1)}]
    assert all("expected an ISO 8601 date" in reason for _, reason in reasons(tmp_path / "out"))


def test_nanoseconds_of_pandas_are_dates(tmp_path: Path) -> None:
    schema = TableSchema({"t": "date"}, None, None, None)
    lines = ["2024-05-01T10:00:00.123456789", "2024-05-01 10:00:00.000000001Z", "2024-05-01", "never"]
    put(tmp_path, "t.csv", "\n".join(["t", *lines, ""]))
    (rows,) = typed_batches(file_of(tmp_path / "t.csv"), schema)
    assert isinstance(rows, Typed) and rows.odd["t"].tolist() == [False, False, False, True]
    kept = rows.columns["t"].to_pylist()
    assert kept == [datetime(2024, 5, 1, 10, 0, 0, 123456), datetime(2024, 5, 1, 10), datetime(2024, 5, 1), None]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a;b\n1,5;x\n2,5;y\n", "its columns are parted by ';'"),
        ("sep=;\na;b\n1,5;x\n2,5;y\n", "its columns are parted by ';', as 'sep=;' says"),
        ("\ufeffsep=|\r\na|b\r\n1.5|x\r\n2.5|y\r\n", "its columns are parted by '|', as 'sep=|' says"),
        ("a|b\n1.5|x\n2.5|y\n", "its columns are parted by '|'"),
        ("a\tb\n1.5\tx\n2.5\ty\n", "its columns are parted by tabs"),
        ("Report of May\n\na,b\n1.5,x\n2.5,y\n", "2 lines above the header are skipped"),
        ("Report,\na,b\n1.5,x\n2.5,y\n", "1 line above the header is skipped"),
        ("sep=,\na,b\n1.5,x\n2.5,y\n", None),
    ],
)
def test_what_parts_columns_is_found_and_said(tmp_path: Path, text: str, note: str | None) -> None:
    summary = ingested(put(tmp_path, "t.csv", text), out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"a": [1.5, 2.5], "b": ["x", "y"]} and not summary["rejected"]
    said = [sentence for sentence in summary["notes"] if sentence.startswith("t.csv")]
    assert said == ([f"t.csv: {note}"] if note else [])


def test_carriage_returns_alone_end_no_line(tmp_path: Path) -> None:
    columns, [reject] = read(put(tmp_path, "t.csv", "a,b\r1,2\r"))
    assert not columns and "its lines end in carriage returns alone" in reject.reason


def test_lone_quotes_in_tabs_take_no_rows(tmp_path: Path) -> None:
    lines = [f"{number}\t{chr(34) if number % 50 == 7 else ''}text {number}\n" for number in range(1000)]
    columns, rejects = read(put(tmp_path, "t.tsv", "a\tb\n" + "".join(lines)))
    assert not rejects and columns["a"] == [str(number) for number in range(1000)]
    assert columns["b"][7] == '"text 7' and columns["b"][8] == "text 8"


def test_a_layout_without_a_header_is_read_with_and_without_labels(tmp_path: Path) -> None:
    layout = LAYOUTS["nsl-kdd"]
    features = [name for name in layout.columns if name not in ("label", "difficulty")]
    row = ["tcp" if layout.kinds[name] == "categorical" else "0" for name in features]
    schema = TableSchema(dict(layout.kinds), "label", ("normal",), "nsl-kdd")
    for end, label in (([], None), (["normal"], "normal"), (["21"], None), (["normal", "21"], "normal")):
        path = put(tmp_path, "t.csv", 3 * (",".join([*row, *end]) + "\n"))
        (rows,) = typed_batches(file_of(path), schema)
        assert isinstance(rows, Typed) and list(rows.columns) == features and rows.positions.tolist() == [1, 2, 3]
        assert rows.label.to_pylist() == [label] * 3 and rows.columns["flag"].to_pylist() == ["tcp"] * 3
    cells = LAYOUTS["wdbc"]
    for start, label in ((["842302", "M"], "malignant"), (["842302"], None), (["B"], "benign"), ([], None)):
        kinds = dict.fromkeys(cells.columns[2:], "numeric")
        path = put(tmp_path, "c.csv", ",".join([*start, *["1.5"] * 30]) + "\n")
        (rows,) = typed_batches(file_of(path), TableSchema(kinds, "diagnosis", ("benign",), "wdbc"))  # type: ignore[arg-type]
        assert isinstance(rows, Typed) and rows.label.to_pylist() == [label]
    (reject,) = typed_batches(file_of(put(tmp_path, "t.csv", "1,2\n")), schema)
    assert isinstance(reject, Reject) and reject.reason == "expected 43 fields, found 2"
