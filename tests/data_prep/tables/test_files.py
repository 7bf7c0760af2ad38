"""Files of tables: however they are written, the same rows with the same kinds of columns."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
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
from data_prep.ingest import ingest
from data_prep.kinds import kind_of
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.records import Reject
from data_prep.tables import separated
from data_prep.tables.files import accepts, typed_batches
from data_prep.tables.kind import TableData
from data_prep.tables.layouts import LAYOUTS
from data_prep.tables.schema import TableConfig
from data_prep.tables.typed import Typed
from tests.data_prep.arrays_input import columns_of, ingested, reasons, rows_of
from tests.data_prep.tables.reading import GOOD, VALUES, file_of, put, read


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


def test_files_of_different_kinds_make_one_table(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "n,c\n1,5\n2,x\n")
    pq.write_table(pa.table({"n": [3, 4], "c": [6.0, 7.5]}), tmp_path / "b.parquet")
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out") == {"n": [1, 2, 3, 4], "c": ["5", "x", "6", "7.5"]}


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
