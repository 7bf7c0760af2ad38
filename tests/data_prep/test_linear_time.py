"""What small inputs of one kind cost: twice the input, at most about twice the work, in every reader.

Work is counted in lines of Python and calls that are executed, so that the machine's load does not matter; in one
match of a pattern, in processor time.
"""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.records import Fields
from data_prep.tables import arff
from data_prep.tables import files as tables
from data_prep.text.formats.formats import read_opened

PIECES = [
    " ",
    "\t",
    ",",
    "'",
    '"',
    "\\",
    "\\'",
    "{",
    "a,",
    '"",',
    "a\t",
    "\n",
    "[",
    '{"a":',
    "%\n",
    "a b ",
    "\u0301",
    "字",
]
FILES = {
    "rows.arff": "@relation a\n@attribute x numeric\n@attribute y string\n@data\n",
    "name.arff": "@relation a\n@attribute ",
    "nominal.arff": "@relation a\n@attribute x {",
    "header.csv": "",
    "rows.csv": "a,b\n1,2\n",
    "quoted.csv": 'a,b\n"',
    "header.tsv": "",
    "rows.jsonl": '{"a": 1}\n',
}
SIZE = 2000
SECONDS, RATIO = 1.0, 3.5  # of the processor for some kilobytes; of twice the input


def table(path: Path) -> Callable[[str], None]:
    def read(text: str) -> None:
        path.write_text(text, encoding="utf-8")
        for file in listed(SourceConfig(path=str(path)), tables.accepts(None), path.parent):
            for _ in tables.raw_batches(file, None, ()):
                pass

    return read


def document(name: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        data = text.encode()
        for _ in read_opened(lambda: io.BytesIO(data), len(data), name, Fields()):
            pass

    return read


def is_linear(read: Callable[[str], Any], begin: str, piece: str) -> bool:
    """Whether some kilobytes of a piece take no time worth mentioning, or twice as many about twice the time."""

    def seconds(size: int) -> float:
        text = begin + piece * (size // len(piece))
        started = time.process_time()
        read(text)
        return time.process_time() - started

    if seconds(4 * SIZE) < SECONDS / 4:
        return True
    times = [median(seconds(size) for _ in range(3)) for size in (4 * SIZE, 8 * SIZE)]
    return times[1] < SECONDS or times[1] / times[0] < RATIO


@pytest.mark.alone
@pytest.mark.parametrize("name", FILES)
def test_tables_are_read_in_linear_time(name: str, tmp_path: Path) -> None:
    read = table(tmp_path / name)
    assert not [piece for piece in PIECES if not is_linear(read, FILES[name], piece)]


@pytest.mark.alone
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_documents_are_read_in_linear_time(name: str) -> None:
    assert not [piece for piece in PIECES if not is_linear(document(name), "", piece)]


@pytest.mark.parametrize(
    "row", [" " * 2000, "'" + " " * 2000, " " * 2000 + "{", ("\\'" * 1000), "'a' " + " " * 2000 + "x"]
)
def test_rows_of_arff_are_matched_once(row: str) -> None:
    """Each was tried in cubic time: 2,000 blanks took 40 seconds."""
    started = time.process_time()
    arff._fields(row)
    assert time.process_time() - started < SECONDS


def test_values_of_arff_are_as_before() -> None:
    assert arff._fields(" a b , 'c, d' ,\"e\" ,, 'f\\'g\\n'") == ["a b", "c, d", "e", "", "f'g\n"]
    assert arff._fields("'a' b") is None and arff._fields("a'b") is None and arff._fields("'a") is None
    match = arff._ATTRIBUTE.fullmatch("@attribute 'a b'   numeric ")
    assert match and match[1] == "a b" and match[4] == "numeric "


def test_names_of_columns_are_compared_in_linear_time(tmp_path: Path) -> None:
    """With a name looked for among all others, 12 KB of tabs took a minute on a busy machine."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def work(columns: int) -> int:
        nonlocal calls
        calls = 0
        sys.setprofile(count)
        try:
            table(tmp_path / "a.csv")(",".join(f"c{number}" for number in range(columns)) + "\n")
        finally:
            sys.setprofile(None)
        return calls

    assert work(4000) < 3 * work(2000)


def test_patterns_of_readers_do_not_try_again() -> None:
    """Unbounded repetitions of what the next part matches, too, are possessive in the readers of rows."""
    for pattern in (arff._FIELD, arff._ATTRIBUTE):
        assert not re.search(r"(?:\\s|\]|\))[*+](?![+?])", pattern.pattern.removesuffix("(.+)"))
