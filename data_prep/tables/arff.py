"""Reader for ARFF, the format of Weka: typed attributes, then one dense row per line.

https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/

Dates are read as ISO 8601, whatever format the attribute gives. Relational attributes and sparse rows are refused.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import BinaryIO

from data_prep.corpus.schema import MISSING, ColumnKind
from data_prep.sources.records import Lines, Reject, excerpt, lost, not_utf8, too_long
from data_prep.tables.layouts import Layout
from data_prep.tables.schema import Raw
from data_prep.tables.separated import rows_of

_ROWS = 8192
_FIELD = re.compile(  # possessive (*+): nothing is tried twice, however long the row
    r"""\s*+(?:'((?:[^'\\]|\\.)*+)'\s*+|"((?:[^"\\]|\\.)*+)"\s*+|([^,'"{}]*+))(,|$)""", re.DOTALL
)
_ATTRIBUTE = re.compile(
    r"""@attribute\s++(?:'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)"|([^\s'"{]++))\s++(.+)""", re.IGNORECASE | re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_NUMERIC = ("numeric", "real", "integer")


def attribute_relation(
    name: str, stream: BinaryIO, layout: Layout | None, drop: Container[str]
) -> Iterator[Raw | Reject]:
    """The rows of a file, with the kinds of its attributes as `declared`."""
    lines = Lines(stream)
    kinds: dict[str, ColumnKind | None] = {}
    nominal: dict[int, set[str]] = {}
    problem = _header(lines, kinds, nominal)
    if problem:
        yield lost(name, max(lines.number, 1), problem)
        return
    names, declared = list(kinds), {column: kind for column, kind in kinds.items() if kind is not None}
    rows: list[list[str]] = []
    positions: list[int] = []
    has_data = False
    for raw in lines:
        if raw is None:
            has_data = True
            yield too_long(name, lines.number, lines.long)
            continue
        if not raw.strip() or raw.lstrip().startswith(b"%"):
            continue
        has_data = True
        values = _row(raw, names, nominal)
        if isinstance(values, str):
            yield Reject(name, lines.number, values, excerpt(raw))
            continue
        rows.append(values)
        positions.append(lines.number)
        if len(rows) == _ROWS:
            yield rows_of(rows, positions, names, drop)._replace(declared=declared)
            rows, positions = [], []
    if rows:
        yield rows_of(rows, positions, names, drop)._replace(declared=declared)
    if not has_data:
        yield lost(name, 1, "no row below @data")


def _header(lines: Lines, kinds: dict[str, ColumnKind | None], nominal: dict[int, set[str]]) -> str | None:
    """Read up to the line `@data`; returns a problem, if there is one."""
    for raw in lines:
        try:
            line = (raw or b"").decode().strip()
        except UnicodeDecodeError as error:
            return not_utf8(raw or b"", error)
        word = line[:10].lower()
        if word.startswith("@data"):
            return None if kinds else "no @attribute before @data"
        if word == "@attribute":
            match = _ATTRIBUTE.fullmatch(line)
            if match is None:
                return f"not an attribute: {line[:80]!r}"
            column = _unquoted(match)
            if column in kinds:
                return f"more than one attribute is called {column!r}"
            type_text = match[4].strip()
            kind = type_text.split(None, 1)[0].lower()
            if type_text.startswith("{"):
                values = _fields(type_text.strip("{}"))
                if not type_text.endswith("}") or values is None:
                    return f"attribute {column!r}: its values cannot be read"
                nominal[len(kinds)] = set(values)
                kinds[column] = "categorical"
            elif kind in _NUMERIC:
                kinds[column] = "numeric"
            elif kind == "date":
                kinds[column] = "date"
            elif kind == "string":
                kinds[column] = "categorical"
            else:
                return f"attribute {column!r} is of type {kind!r}; read are numeric, nominal, string and date ones"
        elif line and not line.startswith("%") and word[:9] != "@relation":
            return f"expected @relation, @attribute or @data, found {line[:80]!r}"
    return "empty file" if lines.number == 0 else "no @data in the file"


def _row(raw: bytes, names: list[str], nominal: dict[int, set[str]]) -> list[str] | str:
    """The values of a line, or its problem."""
    try:
        line = raw.decode().strip()
    except UnicodeDecodeError as error:
        return not_utf8(raw, error)
    if line.startswith("{"):
        return "a sparse row, which is not read; save the file with dense rows"
    if "\0" in line:
        return "holds a NUL character"
    plain = "'" not in line and '"' not in line
    values = [value.strip() for value in line.split(",")] if plain else _fields(line)
    if values is None:
        return "a quote is not closed, or something follows it"
    if len(values) != len(names):
        return f"expected {len(names)} values, found {len(values)}"
    for place, allowed in nominal.items():
        if values[place] not in allowed and values[place] not in MISSING:
            return f"column {names[place]!r}: {values[place][:40]!r} is not one of its declared values"
    return values


def _fields(line: str) -> list[str] | None:
    """Comma-separated values, quoted or not; None if they cannot be parsed."""
    values, start = [], 0
    while True:
        match = _FIELD.match(line, start)
        if match is None:
            return None
        values.append(_unquoted(match))
        start = match.end()
        if not match[4]:
            return values if start == len(line) else None


def _unquoted(match: re.Match[str]) -> str:
    quoted = match[1] if match[1] is not None else match[2]
    if quoted is None:
        return match[3].strip()
    return _ESCAPED.sub(lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), quoted)
