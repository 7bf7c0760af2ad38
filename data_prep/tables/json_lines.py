"""Reader for tables in JSON lines: an object per line, whose fields are the columns.

Numbers are kept as they are written, true and false are "true" and "false", null and fields that a row lacks are
missing. The columns are those of the first rows; a row with another one, or with a list or an object, is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from data_prep.sources.records import Lines, Reject, excerpt, lost, not_utf8, too_long
from data_prep.tables.layouts import Layout
from data_prep.tables.schema import Raw
from data_prep.tables.values import tidy

_ROWS = 8192


def json_lines(name: str, stream: BinaryIO, layout: Layout | None, drop: Container[str]) -> Iterator[Raw | Reject]:
    """The rows of a file."""
    lines, names = Lines(stream), list[str]()
    rows: list[tuple[int, dict[str, str | None]]] = []
    read = 0
    for raw in lines:
        read += 1
        if raw is None:
            yield too_long(name, lines.number, lines.long)
            continue
        if not raw.strip():
            continue
        row = _row(raw)
        new = next((key for key in row if key not in names), None) if names and isinstance(row, dict) else None
        if isinstance(row, str) or new is not None:
            problem = row if isinstance(row, str) else f"the field {new!r} is in none of the first {_ROWS:,} rows"
            yield Reject(name, lines.number, problem, excerpt(raw))
            continue
        rows.append((lines.number, row))
        if len(rows) == _ROWS:
            names = names or _names(rows)
            yield _batch(rows, names, drop)
            rows = []
    if rows:
        yield _batch(rows, names or _names(rows), drop)
    if not read:
        yield lost(name, 1, "empty file")


def _names(rows: list[tuple[int, dict[str, str | None]]]) -> list[str]:
    return list(dict.fromkeys(key for _, row in rows for key in row))


def _batch(rows: list[tuple[int, dict[str, str | None]]], names: list[str], drop: Container[str]) -> Raw:
    columns = {key: tidy(pa.array([row.get(key) for _, row in rows], pa.string())) for key in names if key not in drop}
    return Raw(columns, np.array([line for line, _ in rows], np.int64), {}, names)


def _row(raw: bytes) -> dict[str, str | None] | str:
    """The fields of a line as text, or its problem."""
    try:
        row = json.loads(raw.decode(), parse_float=str, parse_int=str, parse_constant=str)
    except UnicodeDecodeError as error:
        return not_utf8(raw, error)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return "not a JSON object"
    fields: dict[str, str | None] = {}
    for key, value in row.items():
        text = _text(value)
        if isinstance(value, dict | list):
            return f"the field {key!r} holds {'a list' if isinstance(value, list) else 'an object'}, which is no value"
        try:
            f"{key}{text}".encode()
        except UnicodeEncodeError:
            return f"the field {key!r} holds half of a surrogate pair, which is not Unicode text"
        fields[key] = text
    return fields


def _text(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)
