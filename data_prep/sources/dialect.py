"""What parts the columns of a file of separated values, and which lines stand above its header.

The name of a file says what usually parts its columns: commas (.csv) or tabs (.tsv). Its first lines may say otherwise:

    sep=;                 the line that Excel writes and reads
    a;b;c                 no comma, and as many semicolons in every line: `;`, `|`, tabs or commas part the columns
    Report of May         a title: a line of one field above an empty one, or above names of three columns or of numbers

What was detected is reported (`notes`).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import BinaryIO

from data_prep.sources.records import joined
from data_prep.sources.separated import QUOTED, TAB

BEGIN = 1 << 16  # bytes that are looked at
_RECORDS, _TITLES = 50, 10
_ALIKE = 0.9  # share of records with the same number of fields
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?[\d.,]+")
_NAMES = {",": "','", ";": "';'", "|": "'|'", TAB: "tabs"}


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    delimiter: str
    skip: int = 0
    """Lines above the header."""
    notes: tuple[str, ...] = ()
    all_quoted: bool = False
    """Whether all names in the header of a TSV file are quoted, and so all its fields."""
    problem: str = ""
    """Why it cannot be read, if so."""


def begun(
    stream: BinaryIO, usual: str, wanted: Collection[str] = (), delimiter: str | None = None
) -> tuple[BinaryIO, Dialect]:
    """The same stream, from its beginning, and the dialect that its first lines are written in.

    wanted: names of columns; a line that has one of them is no title. delimiter: if it is known.
    """
    begin = b""
    while len(begin) < BEGIN and (block := stream.read(BEGIN - len(begin))):
        begin += block
    return joined(begin, stream), dialect_of(begin, usual, wanted, delimiter)


def dialect_of(begin: bytes, usual: str, wanted: Collection[str] = (), delimiter: str | None = None) -> Dialect:
    """The dialect of a file by its first bytes; usual: the delimiter that its name speaks of."""
    usual = delimiter or usual
    text = begin.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if "\r" in text and "\n" not in text:
        return Dialect(usual, problem="its lines end in carriage returns alone; save it with line feeds")
    lines = [f"{line}\n" for line in text.split("\n")]
    lines = lines if len(begin) < BEGIN else lines[:-1]
    declared = _SEP.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    if declared is not None and delimiter in (None, declared[1]):
        return Dialect(declared[1], 1, _said(declared[1], usual, declared[0]))
    others = () if delimiter else sorted(_NAMES.keys() - {usual}, key=",;\t|".index)
    for delimiter, quoted in [(usual, True), *product(others, (True, False))]:  # a lone quote may take many lines
        records = _records(lines, delimiter, quoted)
        skip = _titles(records, wanted)
        widths = [len(values) for _, values in records[skip:]]
        if not widths or widths[0] < (2 if delimiter == usual or not skip else 3):
            continue
        if delimiter == usual or widths.count(widths[0]) >= _ALIKE * len(widths):
            above = records[skip][0] - 1 if skip else 0
            are = "line above the header is" if above == 1 else "lines above the header are"
            notes = _said(delimiter, usual) + (f"{above} {are} skipped",) * (above > 0)
            return Dialect(delimiter, above, notes, delimiter == TAB and all(map(QUOTED.fullmatch, records[skip][1])))
    return Dialect(usual)


def _said(delimiter: str, usual: str, why: str = "") -> tuple[str, ...]:
    if delimiter == usual:
        return ()
    return (f"its columns are parted by {_NAMES.get(delimiter, repr(delimiter))}{f', as {why!r} says' if why else ''}",)


def _records(lines: Sequence[str], delimiter: str, quoted: bool) -> list[tuple[int, list[str]]]:
    """The first records, with their first lines; the last one may be cut off."""
    quoting = csv.QUOTE_MINIMAL if quoted and delimiter != TAB else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
    records, start = [], 1
    try:
        for values in reader:
            if values and len(records) < _RECORDS:
                records.append((start, values))
            if len(records) == _RECORDS:
                break
            start = reader.line_num + 1
    except csv.Error:
        return records
    return records


def _titles(records: Sequence[tuple[int, list[str]]], wanted: Collection[str]) -> int:
    """Number of records above the header: of one value, where what follows has several, and the same number of them."""
    for skip in range(1, min(_TITLES, len(records) - 2) + 1):
        (line, above), (next_line, header) = records[skip - 1], records[skip]
        if sum(bool(value.strip()) for value in above) != 1 or not set(wanted).isdisjoint(above):
            return 0
        below = [values for _, values in records[skip + 1 :]]
        alike = [values for values in below if len(values) == len(header)]
        has_numbers = any(_NUMBER.fullmatch(value) for values in alike for value in values)
        is_table = len(header) > 2 or has_numbers or next_line > line + 1
        is_header = len(header) > 1 and all(header) and not any(map(_NUMBER.fullmatch, header))
        if is_table and is_header and len(alike) >= _ALIKE * len(below):
            return skip
    return 0


def unique_names(header: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Names of columns, with a number after all but the first of equal ones; and what was done, in words."""
    names, taken, of_header = list[str](), set[str](), set(header)
    next_number: dict[str, int] = {}  # of a name, by which the numbers below are taken
    renamed = []
    for name in header:
        number, new = next_number.get(name, 2), name
        while new in taken or (new != name and new in of_header):
            new, number = f"{name} ({number})", number + 1
        if new != name:
            next_number[name] = number
            renamed.append(f"one more column called {name!r} is called {new!r}")
        names.append(new)
        taken.add(new)
    return names, tuple(renamed)
