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
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data_prep.corpus.schema import ColumnKind, TableSchema, usual_markers
from data_prep.errors import UserError
from data_prep.tables.evidence import Evidence
from data_prep.tables.layouts import LAYOUTS, Layout
from data_prep.tables.values import (
    label_text,
    same_labels,
)

LayoutName = Literal["kdd99", "nsl-kdd", "creditcard", "paysim", "wdbc"]


class TableConfig(BaseModel):
    """Roles and kinds of the columns of a table."""

    model_config = ConfigDict(extra="forbid")

    target: str | None = None
    """Column of the label, which is never an input; layouts define their own."""
    normal: list[str] | None = Field(default=None, min_length=1)
    """Labels of normal rows; rows with any other label are anomalies. Layouts define their own."""
    drop: list[str] = Field(default_factory=list)
    """Columns to drop."""
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """Kinds of columns (numeric, categorical, date); others are inferred."""
    missing: list[str] | dict[str, list[str]] = Field(default_factory=list)
    """Markers of missing values: a list adds to the usual ones of all columns (NA, N/A, None, null, ?, \\N …, "-" in
    columns of numbers or dates); a list by column replaces them for that column. Empty values are always missing."""
    decimal: Literal[".", ","] | None = None
    """What decimals follow in the numbers of text files; null: found column by column."""
    time: str | None = None
    """Numeric or date column to split by: the latest rows become test rows, those before them validation. null: splits
    are random."""
    layout: LayoutName | None = None
    """Layout of the files of a well-known published table: see `data_prep.tables.layouts`."""

    @field_validator("normal", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Converts labels to text: 0 becomes "0"."""
        if not isinstance(value, list):
            return value
        return [label_text(label) if isinstance(label, str | bool | int | float) else label for label in value]

    @model_validator(mode="after")
    def _time_is_read(self) -> TableConfig:
        if self.time is not None and (self.time in self.drop or self.time == self.target):
            where = "drop" if self.time in self.drop else "target"
            raise ValueError(f"'time' is the column {self.time!r}, which is in '{where}', too; name it in one of them")
        return self

    def markers(self, column: str, kind: ColumnKind) -> tuple[str, ...]:
        """Markers of missing values in a column of a kind."""
        if isinstance(self.missing, list):
            return (*usual_markers(kind), *self.missing)
        return ("", *self.missing[column]) if column in self.missing else usual_markers(kind)


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
    delimiter: str = ""  # of separated values
    notes: Sequence[str] = ()  # how the file is written, if not as its name says; complete when all rows are read


def check_columns(name: str, columns: Sequence[str], settings: ColumnSettings, config: TableConfig) -> None:
    """UserError if a setting names a column that the file `name` does not have."""
    for what, wanted in (
        ("target", [] if settings.target is None else [settings.target]),
        ("drop", sorted(settings.drop)),
        ("kinds", list(settings.kinds)),
        ("missing", list(config.missing) if isinstance(config.missing, dict) else []),
        ("time", [] if config.time is None else [config.time]),
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


def schema_of(
    config: TableConfig, settings: ColumnSettings, files: Mapping[str, Sequence[Evidence]], layout: str | None
) -> TableSchema:
    """The schema from the evidence of each file; columns whose kinds differ between files are categorical."""
    kinds: dict[str, ColumnKind] = {}
    written: dict[str, ColumnKind] = {}
    commas, unlearned = list[str](), dict[str, str]()
    for column, evidence in files.items():
        given, together = settings.kinds.get(column), Evidence.of_files(evidence)
        kinds_of_files: list[ColumnKind | None] = [of_file.kind for of_file in evidence if of_file.kind]
        kind: ColumnKind = given or (_common(kinds_of_files) or "categorical" if kinds_of_files else "numeric")
        if column == settings.target or kind == "categorical":
            in_texts = _common([of_file.written for of_file in evidence if of_file.count])
            if in_texts is not None:
                written[column] = in_texts
        if column == settings.target:
            continue
        kinds[column] = kind
        if kind == "numeric" and together.comma:
            commas.append(column)
        if kind == "categorical" and together.names_rows:
            unlearned[column] = "most rows have a value of their own, so it names rows"
        elif kind == "numeric" and given is None and together.counts_rows:
            unlearned[column] = "it only counts the rows; name its kind in data.table.kinds to learn it"
    missing = {column: config.markers(column, kind) for column, kind in kinds.items()} if config.missing else {}
    normal = None if settings.normal is None else same_labels(settings.normal, written.get(settings.target or ""))
    if config.time is not None and kinds.get(config.time) not in ("numeric", "date"):
        raise UserError(
            f"data.table.time: the column {config.time!r} is {kinds.get(config.time)}; split by numbers or dates"
        )
    unlearned = {} if len(unlearned) == len(kinds) else unlearned  # there is nothing else to learn
    return TableSchema(kinds, settings.target, normal, layout, missing, tuple(commas), written, unlearned, config.time)


def _common(kinds: Sequence[ColumnKind | None]) -> ColumnKind | None:
    """What all files agree on; None if they do not."""
    return kinds[0] if len(set(kinds)) == 1 else None
