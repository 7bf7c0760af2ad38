"""Documents, labelled rows and tables are read from the same separated values."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.labelled.files import LabelledConfig, load
from data_prep.sources.dialect import dialect_of, unique_names
from data_prep.sources.records import Document, Fields, Lines, Reject
from data_prep.sources.separated import records
from data_prep.text.formats.tables import comma_separated, tab_separated
from tests.data_prep.tables.test_files import put, read

FIELDS = Fields("text")


def tabs(text: str) -> list[Any]:
    return list(records("t.tsv", Lines(io.BytesIO(text.encode())), "\t"))


def test_quotes_between_tabs() -> None:
    rows = tabs(
        'a\tb\n"lone\tx\ny\t"lone\nz\t5" pipe\n"Great"\tw\n"say ""hi"""\t"with\ttab"\n'
        '"two\nlines"\tv\nu\t"two\nmore"\nt\tlast"\n'
    )
    assert [values for _, values in rows] == [
        ["a", "b"], ['"lone', "x"], ["y", '"lone'], ["z", '5" pipe'], ['"Great"', "w"], ['say "hi"', "with\ttab"],
        ["two\nlines", "v"], ["u", "two\nmore"], ["t", 'last"'],
    ]  # fmt: skip
    assert [line for line, _ in rows] == [1, 2, 3, 4, 5, 6, 7, 9, 11]
    assert [values for _, values in tabs('"a"\t"b"\n"Great"\t""\n')] == [["a", "b"], ["Great", ""]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.text(st.sampled_from('ab "'), max_size=5)] * 2), min_size=1, max_size=30))
def test_lines_without_quoting_are_never_lost(rows: list[tuple[str, str]]) -> None:
    """As many records as lines, whatever quotes there are."""
    lines = [f"{number}{a}\t{b}x" for number, (a, b) in enumerate(rows)]
    found = tabs("\n".join(["one\ttwo", *lines]))
    assert [line for line, _ in found] == list(range(1, len(lines) + 2))
    assert [values[0] for _, values in found[1:]] == [line.split("\t")[0] for line in lines]


def test_three_readers_read_the_same(tmp_path: Path) -> None:
    texts = ['He said "x', '"lone', "plain; text", "a, b", 'say "hi"', "é"] * 3
    for name, delimiter, quoting in (
        ("t.tsv", "\t", csv.QUOTE_NONE),
        ("t.csv", ",", csv.QUOTE_MINIMAL),
        ("s.csv", ";", csv.QUOTE_MINIMAL),
    ):
        out = io.StringIO()
        writer = csv.writer(
            out, delimiter=delimiter, quoting=quoting, quotechar=None if quoting else '"', lineterminator="\r\n"
        )
        writer.writerows([("text", "label"), *((text, number % 2) for number, text in enumerate(texts))])
        path = put(tmp_path, name, "\ufeff" + out.getvalue())
        columns, rejects = read(path)
        assert columns["text"] == texts and not rejects, name
        reader = tab_separated if name.endswith(".tsv") else comma_separated
        documents = list(reader(name, io.BytesIO(path.read_bytes()), FIELDS))
        assert [document.text for document in documents if isinstance(document, Document)] == texts
        found = load(LabelledConfig(path=str(path)), tmp_path)
        assert {row.text for rows in found.splits.values() for row in rows} == set(texts)


def test_columns_of_one_name() -> None:
    assert unique_names(["a", "b", "a", "a (2)"])[0] == ["a", "b", "a (3)", "a (2)"]
    rows = list(comma_separated("t.csv", io.BytesIO(b"id,id,text\n1,2,x\n"), FIELDS))
    assert isinstance(rows[0], Document) and rows[0].meta == {"id": "1", "id (2)": "2"}
    (reject,) = comma_separated("t.csv", io.BytesIO(b"text,text\n1,2\n"), FIELDS)
    assert isinstance(reject, Reject) and reject.reason == "more than one column is called 'text'"


@pytest.mark.parametrize(
    ("text", "usual", "delimiter", "skip"),
    [
        ("text\nHello; world\nfoo; bar\nx; y\n", ",", ",", 0),  # one column of sentences
        ("text\nHello, world\nfoo, bar\nx, y\n", ",", ",", 0),
        ("x\n1,5\n2,6\n", ",", ",", 0),  # rows with names, as R writes them: no title
        ("a,b;c\n1,2;3\n", ",", ",", 0),
        ("id\ttext\n1\ta, b\n", "\t", "\t", 0),
        ("id,text\n1,a b\n", "\t", ",", 0),
        ("# made by hand\n# on Monday\nid,text,x\n1,a,b\n2,c,d\n", ",", ",", 2),
        ("", ",", ",", 0),
        ("a,b", ",", ",", 0),
    ],
)
def test_dialects(text: str, usual: str, delimiter: str, skip: int) -> None:
    found = dialect_of(text.encode(), usual)
    assert (found.delimiter, found.skip) == (delimiter, skip)


def test_a_line_with_a_wanted_column_is_no_title() -> None:
    text = b"text\nx,y,z\n1,2,3\n4,5,6\n"
    assert dialect_of(text, ",").skip == 1 and dialect_of(text, ",", ["text"]).skip == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_have_a_dialect(begin: bytes) -> None:
    for usual in (",", "\t"):
        assert dialect_of(begin, usual).skip <= begin.count(b"\n")
