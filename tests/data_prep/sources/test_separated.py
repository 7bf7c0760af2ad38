"""Documents, labelled rows and tables are read from the same separated values."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.labelled.files import LabelledConfig, load
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.dialect import dialect_of, unique_names
from data_prep.sources.records import Document, Fields, Lines, Reject, Remarks
from data_prep.sources.separated import Quotes, records
from data_prep.tables.files import accepts, raw_batches
from data_prep.tables.schema import Raw
from data_prep.text.documents import documents
from data_prep.text.formats.tables import comma_separated, tab_separated
from tests.data_prep.tables.reading import file_of, put, read

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
    records = tabs("\n".join(["one\ttwo", *lines]))
    assert [line for line, _ in records] == list(range(1, len(lines) + 2))
    assert [values[0] for _, values in records[1:]] == [line.split("\t")[0] for line in lines]


def test_three_readers_read_the_same(tmp_path: Path) -> None:
    texts = ['He said "x', '"lone', "plain; text", "a, b", 'say "hi"', "é"] * 3
    dialects: list[tuple[str, str, Literal[0, 3]]]
    dialects = [("t.tsv", "\t", csv.QUOTE_NONE), ("t.csv", ",", csv.QUOTE_MINIMAL), ("s.csv", ";", csv.QUOTE_MINIMAL)]
    for name, delimiter, quoting in dialects:
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
        labelled = load(LabelledConfig(path=str(path)), tmp_path)
        assert {row.text for rows in labelled.splits.values() for row in rows} == set(texts)


CELLS = st.text(st.sampled_from('a,;" \n'), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8), st.sampled_from(("\n", "\r\n")), st.sampled_from((0, 1)))
def test_what_is_quoted_as_it_should_be_is_read_as_written(
    rows: list[tuple[str, ...]], end: str, quoting: Literal[0, 1]
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=quoting).writerows([("x", "y", "z"), *rows])
    read = list(records("t.csv", Lines(io.BytesIO(out.getvalue().encode())), ","))
    assert [record[1] for record in read if not isinstance(record, Reject)] == [["x", "y", "z"], *map(list, rows)]


def quoted(text: str, width: int | None = None) -> tuple[list[list[str]], list[int], Quotes]:
    """Records, positions of rejects, and what was made of quotes."""
    quotes = Quotes()
    read = list(records("t.csv", Lines(io.BytesIO(text.encode())), ",", width, quotes=quotes))
    rejected = [record.position for record in read if isinstance(record, Reject)]
    return [record[1] for record in read if not isinstance(record, Reject)], rejected, quotes


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(("plain", '"lone', '5" pipe', '"some" do', '"a, b"', '"two\nlines"')), max_size=30))
def test_a_quote_that_quotes_nothing_takes_no_other_row(texts: list[str]) -> None:
    texts = [*texts, "plain", "plain"]
    rows, rejected, quotes = quoted("\n".join(["text,n,m", *(f"{text},{n},-" for n, text in enumerate(texts)), ""]))
    meant = [text.strip('"') if text.startswith(('"a', '"two')) else text for text in texts]
    assert rows[1:] == [[text, str(n), "-"] for n, text in enumerate(meant)] and not rejected
    assert quotes.lone == texts.count('"lone') + texts.count('"some" do')


@pytest.mark.parametrize(
    ("text", "kept", "rejected"),
    [
        ('a,b\n1,"He said "yes" and\nleft"\n2,x\n', [['left"'], ["2", "x"]], [2]),  # a field of two lines
        ('a,b\n1,x\n2,"open\n', [["1", "x"]], [3]),  # who knows
        ('a,b\n1,"some\nlines",3\n2,x\n', [["1", "some\nlines", "3"], ["2", "x"]], []),  # a field too much
        ('text\n"one\ntwo\nthree\n', [], [2, 3, 4]),  # every line would be a row
        ('a,b\n1,"text\nof two lines\n2,"x y"\n', [["2", "x y"]], [2, 3]),
    ],
)
def test_where_quotes_may_mean_two_things_nothing_is_guessed(
    text: str, kept: list[list[str]], rejected: list[int]
) -> None:
    outcome = quoted(text)
    assert (outcome[0][1:], outcome[1], outcome[2].lone) == (kept, rejected, 0)


def test_what_is_made_of_quotes_is_said_of_documents_labels_and_tables(tmp_path: Path) -> None:
    said = "1 row has a quote at the beginning of a field that it does not quote, read as text (line 3)"
    rows = [f"Row {number},{number % 2}" for number in range(40)]
    text = "\n".join(["text,label", rows[0], f'"{rows[1]}', *rows[2:], ""])
    path = put(tmp_path, "t.csv", text)
    remarks = Remarks()
    assert len(list(comma_separated("t.csv", io.BytesIO(text.encode()), FIELDS._replace(remarks=remarks)))) == 40
    assert remarks.notes == [("t.csv", said)]
    assert load(LabelledConfig(path=str(path)), tmp_path).notes == (said,)
    batches = [batch for batch in raw_batches(file_of(path), None, ()) if isinstance(batch, Raw)]
    assert list(batches[0].notes) == [said] and sum(len(batch.positions) for batch in batches) == 40
    taken = 'a,b\n1,"x\n2,y\n3,z"\n'
    assert quoted(taken)[2].notes == [
        "1 quoted field holds lines that look like rows of their own (line 2); if a quote was left open, mend it"
    ]


def test_a_long_line_within_quotes_costs_all_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.sources.records.MAX_BYTES", 50)
    rows, rejected, _ = quoted(f'a,b\n1,"x\nand\n{"y" * 60}\n2,z\n')
    assert (rows[1:], rejected) == ([["2", "z"]], [2, 3, 4])


@pytest.mark.parametrize("delimiter", ["^", "\t", ":"])
def test_encoding_and_delimiter_can_be_set_for_all(tmp_path: Path, delimiter: str) -> None:
    rows = [f"Café {n}{delimiter}{n % 2}" for n in range(40)]
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join([f"text{delimiter}label", *rows, ""]).encode("utf-16"))
    source = SourceConfig(path=str(path), encoding="utf-16", delimiter=delimiter)
    texts = [f"Café {n}" for n in range(40)]
    assert [row.text for row in documents(source, tmp_path) if isinstance(row, Document)] == texts
    labelled = load(LabelledConfig(path=str(path), encoding="utf-16", delimiter=delimiter), tmp_path)
    assert {row.text for rows in labelled.splits.values() for row in rows} == set(texts)
    [file] = listed(source, accepts(None), tmp_path)
    (batch,) = raw_batches(file, None, ())
    assert isinstance(batch, Raw) and batch.columns["text"].to_pylist() == texts and not batch.notes


@pytest.mark.parametrize("config", [SourceConfig, LabelledConfig])
def test_what_is_not_set_is_in_no_key(config: Any) -> None:
    assert "delimiter" not in config(path="t.csv").model_dump()
    given = config(path="t.csv", encoding="latin-1", delimiter=";")
    assert config.model_validate_json(given.model_dump_json()) == given and given.model_dump()["delimiter"] == ";"


@pytest.mark.parametrize("config", [SourceConfig, LabelledConfig])
@pytest.mark.parametrize(("setting", "value"), [("delimiter", ";;"), ("delimiter", '"'), ("encoding", "utf-9")])
def test_settings_that_mean_nothing_are_refused(config: Any, setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"one character parts columns|no encoding of text is called"):
        config(path="t.csv", **{setting: value})


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
    dialect = dialect_of(text.encode(), usual)
    assert (dialect.delimiter, dialect.skip) == (delimiter, skip)


def test_a_line_with_a_wanted_column_is_no_title() -> None:
    text = b"text\nx,y,z\n1,2,3\n4,5,6\n"
    assert dialect_of(text, ",").skip == 1 and dialect_of(text, ",", ["text"]).skip == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_have_a_dialect(begin: bytes) -> None:
    for usual in (",", "\t"):
        assert dialect_of(begin, usual).skip <= begin.count(b"\n")


def test_lines_after_a_lone_quote_are_not_lost_at_the_end_of_a_file() -> None:
    """They were looked at for the end of the field, and not read again."""
    assert tabs('a\tb\tc\n1\t2\t"x\nsome\nmore\n')[1:] == [(2, ["1", "2", '"x']), (3, ["some"]), (4, ["more"])]
