"""Columns and classes of a corpus of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from data_prep.errors import UserError

ColumnKind = Literal["numeric", "categorical", "date"]

ARROW: dict[ColumnKind, pa.DataType] = {
    "numeric": pa.float64(),
    "categorical": pa.string(),
    "date": pa.timestamp("us"),
}


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table: the kinds of the inputs, in order, and the label. Plain values, for JSON."""

    kinds: dict[str, ColumnKind]
    target: str | None = None
    normal: tuple[str, ...] | None = None
    layout: str | None = None

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> TableSchema:
        normal = value["normal"]
        return TableSchema(
            dict(value["kinds"]), value["target"], None if normal is None else tuple(normal), value["layout"]
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

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
