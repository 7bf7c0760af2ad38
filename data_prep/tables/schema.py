"""Tables: what a recipe says of them, and how rows that were read become rows of typed columns.

    files ─► `table_files.raw_batches`: columns as the file has them ─► `TableSchema.of` ─► `typed`: float64,
             timestamp[us] or string, nulls kept; rows that do not fit are refused

The label (`target`) is never among the inputs. `table_values` says what a kind is, `table_layouts` knows published
tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.arrow import pc
from data_prep.corpus.schema import ColumnKind, TableSchema
from data_prep.errors import UserError
from data_prep.sources.records import EXCERPT, Reject
from data_prep.tables.layouts import LAYOUTS, Layout
from data_prep.tables.values import CALLED, dates, numbers, texts, tidy

LayoutName = Literal["kdd99", "nsl-kdd", "creditcard", "paysim", "wdbc"]


class TableConfig(BaseModel):
    """What the columns of a table mean."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: str | None = None
    """Column of the label, which is never an input; a layout has its own."""
    normal: list[str] | None = Field(default=None, min_length=1)
    """Labels of normal rows; then rows of every other label are anomalies. A layout has its own."""
    drop: list[str] = Field(default_factory=list)
    """Columns that are left out."""
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """Kinds of columns (numeric, categorical, date) that are not to be found out."""
    layout: LayoutName | None = None
    """How the files were published, if they are of a well-known table: see `data_prep.tables.layouts`."""

    @field_validator("normal", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Labels are text: 0 is "0"."""
        numeric = isinstance(value, list) and not any(isinstance(label, bool) for label in value)
        return [str(label) if isinstance(label, int) else label for label in value] if numeric else value


class Asked(NamedTuple):
    """What is asked of the columns of a source: a config with what the layout of its files says."""

    target: str | None
    normal: tuple[str, ...] | None
    drop: frozenset[str]
    kinds: Mapping[str, ColumnKind]
    layout: Layout | None


def asked(config: TableConfig, layout: str | None = None) -> Asked:
    """`layout`: that of a package, which has precedence."""
    chosen_layout = LAYOUTS.get(layout or config.layout or "")
    if chosen_layout is None:
        normal = None if config.normal is None else tuple(config.normal)
        return Asked(config.target, normal, frozenset(config.drop), config.kinds, None)
    target = config.target or chosen_layout.target
    normal = tuple(config.normal) if config.normal else chosen_layout.normal if target == chosen_layout.target else None
    return Asked(
        target, normal, chosen_layout.drop | set(config.drop), {**chosen_layout.kinds, **config.kinds}, chosen_layout
    )


class Raw(NamedTuple):
    """Rows as a file has them: every column but dropped ones as string, float64 or timestamp[us]."""

    columns: dict[str, pa.Array]
    positions: np.ndarray  # [R] int64: line or row of the file, from 1
    declared: Mapping[str, ColumnKind]  # what the file says of its columns' kinds
    names: Sequence[str] = ()  # of all columns, the dropped ones, too


class Typed(NamedTuple):
    """Rows of one kind a column."""

    columns: dict[str, pa.Array]  # of the inputs
    label: pa.Array  # string; null where there is none
    positions: np.ndarray  # [R] int64


def check_columns(name: str, columns: Sequence[str], asked: Asked) -> None:
    """UserError where a setting names a column that the file `name` does not have."""
    for what, wanted in (
        ("target", [] if asked.target is None else [asked.target]),
        ("drop", sorted(asked.drop)),
        ("kinds", list(asked.kinds)),
    ):
        for column in wanted:
            if column not in columns:
                columns_shown = ", ".join(map(repr, columns[:20])) + ", …" * (len(columns) > 20)
                raise UserError(
                    f"data.table.{what} names the column {column!r}, which {name} does not have; it has {columns_shown}"
                )
    if asked.target in asked.drop:
        raise UserError(
            f"data.table.drop names the column {asked.target!r}, which is data.table.target; name it in one of them"
        )
    if not set(columns) - asked.drop - {asked.target}:
        raise UserError(f"no column of {name} is left to learn from; it has {', '.join(map(repr, columns))}")


def misfit(raw: Raw, schema: TableSchema, first: str, labelled: bool = True) -> str | None:
    """Why rows have other columns than the schema, if they have; `first`: the file whose columns it has."""
    wanted = {*schema.kinds, *([schema.target] if schema.target and labelled else [])}
    missing, more = wanted - set(raw.columns), set(raw.columns) - wanted - {schema.target}
    if missing:
        return f"its columns are not those of {first}: {sorted(missing)[0]!r} is missing"
    if more and labelled:
        return f"its columns are not those of {first}: {sorted(more)[0]!r} is too much"
    return None


def typed(name: str, raw: Raw, schema: TableSchema) -> tuple[Typed, list[Reject]]:
    """Rows of a file as the schema has them, and those refused: no number, no date, or infinite.

    A target that the file does not have leaves the labels null: rows that are only scored have none.
    """
    columns: dict[str, pa.Array] = {}
    problems: dict[int, str] = {}
    for column, kind in schema.kinds.items():
        raw_column = raw.columns[column]
        if kind == "numeric":
            values, bad = numbers(raw_column)
            infinite = np.isinf(values)
            columns[column] = pa.array(values, from_pandas=True)  # NaN is null
            for row in np.flatnonzero(infinite).tolist():
                problems.setdefault(row, f"column {column!r} is infinite ({_shown(raw_column[row])})")
        elif kind == "date":
            columns[column], bad = dates(raw_column)
        else:
            columns[column], bad = texts(raw_column), np.zeros(0, bool)
        for row in np.flatnonzero(bad).tolist():
            problems.setdefault(row, f"column {column!r}: expected {CALLED[kind]}, found {_shown(raw_column[row])}")
    target = None if schema.target is None else raw.columns.get(schema.target)
    label = pa.nulls(len(raw.positions), pa.string()) if target is None else _labels(target, schema)
    if not problems:
        return Typed(columns, label, raw.positions), []
    rejects = [Reject(name, int(raw.positions[row]), problems[row], _begin(raw, row)) for row in sorted(problems)]
    keep = np.ones(len(raw.positions), bool)
    keep[list(problems)] = False
    mask = pa.array(keep)
    columns = {column: values.filter(mask) for column, values in columns.items()}
    return Typed(columns, label.filter(mask), raw.positions[keep]), rejects


def _labels(target: pa.Array, schema: TableSchema) -> pa.Array:
    label, layout = texts(target), LAYOUTS.get(schema.layout or "")
    if layout is None or schema.target != layout.target:
        return label
    if layout.label_ends:
        label = pc.replace_substring_regex(label, layout.label_ends.replace(".", r"\.") + "$", "")
    if layout.labels:
        known, names = pa.array(list(layout.labels)), pa.array(list(layout.labels.values()))
        names_of_rows = names.take(pc.index_in(label, known))
        label = pc.coalesce(names_of_rows, label)
    return tidy(label)


def _shown(value: pa.Scalar) -> str:
    text = plain(value)
    return repr(text if len(text) <= EXCERPT // 2 else text[: EXCERPT // 2 - 1] + "…")


def plain(value: pa.Scalar) -> str:
    """As text, "" where there is none; also of dates that Python has no word for."""
    if not value.is_valid:
        return ""
    return str(value.cast(pa.string()) if pa.types.is_timestamp(value.type) else value.as_py())


def _begin(raw: Raw, row: int) -> str:
    """How a row begins, for people to find it."""
    begin = ""
    for values in raw.columns.values():
        begin += ("," if begin else "") + plain(values[row])[:EXCERPT]
        if len(begin) > EXCERPT:
            return begin[: EXCERPT - 1] + "…"
    return begin


def schema_of(asked: Asked, kinds_of: Mapping[str, set[ColumnKind]], layout: str | None) -> TableSchema:
    """The schema of columns of which the files say so: one kind, or categorical where they do not agree."""
    kinds: dict[str, ColumnKind] = {}
    for column, file_kinds in kinds_of.items():
        if column != asked.target:
            kinds[column] = asked.kinds.get(column) or (
                "numeric" if not file_kinds else next(iter(file_kinds)) if len(file_kinds) == 1 else "categorical"
            )
    return TableSchema(kinds, asked.target, asked.normal, layout)
