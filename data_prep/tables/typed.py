"""Rows of files converted to rows of typed columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.schema import MISSING, TableSchema
from data_prep.sources.records import EXCERPT, Reject
from data_prep.tables.layouts import LAYOUTS
from data_prep.tables.schema import Raw
from data_prep.tables.values import CALLED, beyond_float, dates, numbers, texts, tidy, without


class Typed(NamedTuple):
    """Rows of typed columns."""

    columns: dict[str, pa.Array]  # the inputs
    label: pa.Array  # string; null for unlabelled rows
    positions: np.ndarray  # [R] int64
    beyond_float: Mapping[str, pa.Array] = {}
    """Texts of numbers that float64 does not tell from others (`data_prep.tables.values.beyond_float`)."""
    odd: Mapping[str, np.ndarray] = {}
    """For rows to be scored, by column: bool [R], where a value does not have the column's kind."""


def misfit(raw: Raw, schema: TableSchema, first: str, labelled: bool = True) -> str | None:
    """Why the columns of rows do not match the schema, if so; `first`: the file whose columns the schema has."""
    wanted = {*schema.kinds, *([schema.target] if schema.target and labelled else [])}
    missing, extra = wanted - set(raw.columns), set(raw.columns) - wanted - {schema.target}
    if missing:
        return f"its columns are not those of {first}: {sorted(missing)[0]!r} is missing"
    if extra and labelled:
        return f"its columns are not those of {first}: {sorted(extra)[0]!r} is too much"
    return None


def typed(name: str, raw: Raw, schema: TableSchema, keep_odd: bool = False) -> tuple[Typed, list[Reject]]:
    """Rows of a file converted to the schema, and rejects: values that are not numbers or dates, or infinite.

    keep_odd: such rows are kept, too; their odd values are null or infinite, and reported as `Typed.odd`. Labels are
    null if the file has no target column, as in files that are only scored.
    """
    columns: dict[str, pa.Array] = {}
    problems: dict[int, str] = {}
    exact: dict[str, pa.Array] = {}
    odd: dict[str, np.ndarray] = {}
    for column, kind in schema.kinds.items():
        raw_column = without(raw.columns[column], schema.markers(column))
        bad = np.zeros(len(raw_column), bool)
        if kind == "numeric":
            comma = column in schema.commas
            if raw.declared.get(column) == "categorical":  # true is 1 where the training data write 1
                raw_column = _as_bits(raw_column)
            values, bad = numbers(raw_column, comma)
            if comma and bad.any():  # of a file whose decimals follow a point
                as_points, no_points = numbers(raw_column)
                values, bad = np.where(bad, as_points, values), bad & no_points
            columns[column] = pa.array(values, from_pandas=True)  # NaN becomes null
            texts_beyond = beyond_float(raw_column, comma)
            if texts_beyond is not None:
                exact[column] = texts_beyond
            for row in () if keep_odd else np.flatnonzero(np.isinf(values)).tolist():
                problems.setdefault(row, f"column {column!r} is infinite ({_shown(raw_column[row])})")
        elif kind == "date":
            columns[column], bad = dates(raw_column)
            if keep_odd and bad.any():
                columns[column] = pc.if_else(pa.array(bad), pa.scalar(None, columns[column].type), columns[column])
        else:
            columns[column] = texts(raw_column, schema.written.get(column))
        if bad.any():
            odd[column] = bad
        for row in np.flatnonzero(bad).tolist():
            problems.setdefault(row, f"column {column!r}: expected {CALLED[kind]}, found {_shown(raw_column[row])}")
        if column == schema.time and not keep_odd:
            for row in np.flatnonzero(np.asarray(columns[column].is_null())).tolist():
                problems.setdefault(row, f"column {column!r}, by which rows are split, has no value")
    target = None if schema.target is None else raw.columns.get(schema.target)
    label = pa.nulls(len(raw.positions), pa.string()) if target is None else _labels(target, schema)
    rows = Typed(columns, label, raw.positions, exact, odd)
    if keep_odd or not problems:
        return rows, []
    rejects = [Reject(name, int(raw.positions[row]), problems[row], _begin(raw, row)) for row in sorted(problems)]
    keep = np.ones(len(raw.positions), bool)
    keep[list(problems)] = False
    return _chosen(rows, keep), rejects


def _as_bits(column: pa.Array) -> pa.Array:
    """Strings, of which true and false are 1 and 0."""
    bits = pc.index_in(column, pa.array(["false", "true"])).cast(pa.string())
    return pc.coalesce(bits, column)


def _chosen(rows: Typed, keep: np.ndarray) -> Typed:
    mask = pa.array(keep)
    columns = {column: values.filter(mask) for column, values in rows.columns.items()}
    exact = {column: values.filter(mask) for column, values in rows.beyond_float.items()}
    return Typed(columns, rows.label.filter(mask), rows.positions[keep], exact)


def _labels(target: pa.Array, schema: TableSchema) -> pa.Array:
    markers = [marker for marker in MISSING if marker not in (schema.normal or ())]
    label, layout = (
        texts(without(target, markers), schema.written.get(schema.target or "")),
        LAYOUTS.get(schema.layout or ""),
    )
    if layout is None or schema.target != layout.target:
        return label
    if layout.label_ends:
        label = pc.replace_substring_regex(label, layout.label_ends.replace(".", r"\.") + "$", "")
    if layout.labels:
        codes, names = pa.array(list(layout.labels)), pa.array(list(layout.labels.values()))
        names_of_rows = names.take(pc.index_in(label, codes))
        label = pc.coalesce(names_of_rows, label)
    return tidy(label)


def _shown(value: pa.Scalar) -> str:
    text = plain(value)
    return repr(text if len(text) <= EXCERPT // 2 else text[: EXCERPT // 2 - 1] + "…")


def plain(value: pa.Scalar) -> str:
    """A value as text, "" for null; includes dates outside the range of Python's datetime."""
    if not value.is_valid:
        return ""
    return str(value.cast(pa.string()) if pa.types.is_timestamp(value.type) else value.as_py())


def _begin(raw: Raw, row: int) -> str:
    """The beginning of a row, to help users find it."""
    begin = ""
    for values in raw.columns.values():
        begin += ("," if begin else "") + plain(values[row])[:EXCERPT]
        if len(begin) > EXCERPT:
            return begin[: EXCERPT - 1] + "…"
    return begin
