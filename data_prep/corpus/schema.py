"""Columns and classes of a corpus of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
from pydantic import TypeAdapter

from data_prep.errors import UserError

ColumnKind = Literal["numeric", "categorical", "date"]

ARROW: dict[ColumnKind, pa.DataType] = {
    "numeric": pa.float64(),
    "categorical": pa.string(),
    "date": pa.timestamp("us"),
}


MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan", "1.#QNAN"),
    *("1.#IND", "-1.#QNAN", "-1.#IND", "NaT", "?", "null", "Null", "NULL", "None", r"\N", "(null)"),
)
"""Usual markers of missing values."""
NO_MEASURE = ("-", "--", "—", "–", ".", "none", "nil", "0000-00-00", "0000-00-00 00:00:00")
"""Further ones in columns of numbers or dates."""


def usual_markers(kind: ColumnKind) -> tuple[str, ...]:
    """Markers of missing values in a column of a kind."""
    return MISSING if kind == "categorical" else (*MISSING, *NO_MEASURE)


_WRITTEN = ("encoding", "delimiter")


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table: the kinds of the inputs, in order, and the label. Plain values, for JSON."""

    kinds: dict[str, ColumnKind]
    target: str | None = None
    normal: tuple[str, ...] | None = None
    layout: str | None = None
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Markers of missing values by column, if they are not the usual ones."""
    commas: tuple[str, ...] = ()
    """Numeric columns whose decimals follow a comma in text files."""
    written: dict[str, ColumnKind] = field(default_factory=dict)
    """Categorical columns, or the label, whose values all write numbers or dates: equal ones have one text."""
    unlearned: dict[str, str] = field(default_factory=dict)
    """Columns that tell nothing but which row it is, and why."""
    time: str | None = None
    """Column by which rows are split."""
    encoding: str | None = None
    """Encoding of files of text that are not UTF-8."""
    delimiter: str | None = None
    """What parts the columns of separated values, if it was set."""

    def markers(self, column: str) -> tuple[str, ...]:
        """Markers of missing values in a column."""
        return self.missing[column] if column in self.missing else usual_markers(self.kinds[column])

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> TableSchema:
        normal = value["normal"]
        lists = {
            "normal": None if normal is None else tuple(normal),
            "missing": {name: tuple(markers) for name, markers in value["missing"].items()},
            "commas": tuple(value["commas"]),
        }
        settings = {**value, **lists}
        TableSchema(**settings)  # no others
        return TypeAdapter(TableSchema).validate_python(settings)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _WRITTEN}

    @property
    def fields(self) -> list[pa.Field]:
        return [pa.field(name, ARROW[kind]) for name, kind in self.kinds.items()]


def classes_of(labels: set[str], normal: Sequence[str] | None) -> list[str]:
    """Class names by index: normal and anomaly if `normal` labels are given, else the sorted labels."""
    if normal is not None:
        unknown = sorted(set(normal) - labels)
        if unknown:
            some_labels = ", ".join(map(repr, sorted(labels)[:20])) or "none"
            raise UserError(f"data.table.normal: no row has the label {unknown[0]!r}; there are {some_labels}")
        return ["normal", "anomaly"]
    return sorted(labels, key=_natural)


def _natural(label: str) -> tuple[float, str]:
    """Sort key: numbers by value, then everything else by name."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
