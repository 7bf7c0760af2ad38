"""Settings of tables, and converting rows as read to rows of typed columns.

    files ─► `tables.files.raw_batches`: columns as in the file ─► `schema_of` ─► `typed`: float64, timestamp[us] or
             string, with nulls; rows that do not fit are rejected

The label (`target`) is never an input. `tables.values` defines the kinds of columns, `tables.layouts` the layouts of
published tables.
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
    """Roles and kinds of the columns of a table."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: str | None = None
    """Column of the label, which is never an input; layouts define their own."""
    normal: list[str] | None = Field(default=None, min_length=1)
    """Labels of normal rows; rows with any other label are anomalies. Layouts define their own."""
    drop: list[str] = Field(default_factory=list)
    """Columns to drop."""
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """Kinds of columns (numeric, categorical, date); others are inferred."""
    layout: LayoutName | None = None
    """Layout of the files of a well-known published table: see `data_prep.tables.layouts`."""

    @field_validator("normal", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Converts labels to text: 0 becomes "0"."""
        numeric = isinstance(value, list) and not any(isinstance(label, bool) for label in value)
        return [str(label) if isinstance(label, int) else label for label in value] if numeric else value


class ColumnSettings(NamedTuple):
    """Settings of the columns of a source: the config, completed by the layout of its files."""

    target: str | None
    normal: tuple[str, ...] | None
    drop: frozenset[str]
    kinds: Mapping[str, ColumnKind]
    layout: Layout | None


def column_settings(config: TableConfig, layout: str | None = None) -> ColumnSettings:
    """Combine a config with a layout. `layout`: that of a package, which has precedence over `config.layout`."""
    chosen_layout = LAYOUTS.get(layout or config.layout or "")
    if chosen_layout is None:
        normal = None if config.normal is None else tuple(config.normal)
        return ColumnSettings(config.target, normal, frozenset(config.drop), config.kinds, None)
    target = config.target or chosen_layout.target
    normal = tuple(config.normal) if config.normal else chosen_layout.normal if target == chosen_layout.target else None
    return ColumnSettings(
        target, normal, chosen_layout.drop | set(config.drop), {**chosen_layout.kinds, **config.kinds}, chosen_layout
    )


class Raw(NamedTuple):
    """Rows as in a file: every column that is not dropped, as string, float64 or timestamp[us]."""

    columns: dict[str, pa.Array]
    positions: np.ndarray  # [R] int64: line or row in the file, from 1
    declared: Mapping[str, ColumnKind]  # kinds of columns, as far as the file states them
    names: Sequence[str] = ()  # of all columns, including dropped ones


class Typed(NamedTuple):
    """Rows of typed columns."""

    columns: dict[str, pa.Array]  # the inputs
    label: pa.Array  # string; null for unlabelled rows
    positions: np.ndarray  # [R] int64


def check_columns(name: str, columns: Sequence[str], settings: ColumnSettings) -> None:
    """UserError if a setting names a column that the file `name` does not have."""
    for what, wanted in (
        ("target", [] if settings.target is None else [settings.target]),
        ("drop", sorted(settings.drop)),
        ("kinds", list(settings.kinds)),
    ):
        for column in wanted:
            if column not in columns:
                columns_shown = ", ".join(map(repr, columns[:20])) + ", …" * (len(columns) > 20)
                raise UserError(
                    f"data.table.{what} names the column {column!r}, which {name} does not have; it has {columns_shown}"
                )
    if settings.target in settings.drop:
        raise UserError(
            f"data.table.drop names the column {settings.target!r}, which is data.table.target; name it in one of them"
        )
    if not set(columns) - settings.drop - {settings.target}:
        raise UserError(f"no column of {name} is left to learn from; it has {', '.join(map(repr, columns))}")


def misfit(raw: Raw, schema: TableSchema, first: str, labelled: bool = True) -> str | None:
    """Why the columns of rows do not match the schema, if so; `first`: the file whose columns the schema has."""
    wanted = {*schema.kinds, *([schema.target] if schema.target and labelled else [])}
    missing, extra = wanted - set(raw.columns), set(raw.columns) - wanted - {schema.target}
    if missing:
        return f"its columns are not those of {first}: {sorted(missing)[0]!r} is missing"
    if extra and labelled:
        return f"its columns are not those of {first}: {sorted(extra)[0]!r} is too much"
    return None


def typed(name: str, raw: Raw, schema: TableSchema) -> tuple[Typed, list[Reject]]:
    """Rows of a file converted to the schema, and rejects: values that are not numbers or dates, or infinite.

    Labels are null if the file has no target column, as in files that are only scored.
    """
    columns: dict[str, pa.Array] = {}
    problems: dict[int, str] = {}
    for column, kind in schema.kinds.items():
        raw_column = raw.columns[column]
        if kind == "numeric":
            values, bad = numbers(raw_column)
            infinite = np.isinf(values)
            columns[column] = pa.array(values, from_pandas=True)  # NaN becomes null
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


def schema_of(settings: ColumnSettings, kinds_of: Mapping[str, set[ColumnKind]], layout: str | None) -> TableSchema:
    """The schema from the kinds found in each file; columns whose kinds differ between files are categorical."""
    kinds: dict[str, ColumnKind] = {}
    for column, file_kinds in kinds_of.items():
        if column != settings.target:
            kinds[column] = settings.kinds.get(column) or (
                "numeric" if not file_kinds else next(iter(file_kinds)) if len(file_kinds) == 1 else "categorical"
            )
    return TableSchema(kinds, settings.target, settings.normal, layout)
