"""ARFF: attributes, kinds, and rows and headers that are refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from data_prep.tables.schema import TableConfig
from tests.data_prep.arrays_input import columns_of, ingested, reasons
from tests.data_prep.tables.reading import put, read


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
