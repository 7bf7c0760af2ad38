"""What a corpus of rows says of its columns and classes."""

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
    """The columns of a table: kinds of the inputs, in order, and what the label is. Plain values, for JSON."""

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
    """Names of the classes by their number: 0 normal, 1 anomaly where it is said what is normal, else in order."""
    if normal is not None:
        unknown = sorted(set(normal) - labels)
        if unknown:
            some_labels = ", ".join(map(repr, sorted(labels)[:20])) or "none"
            raise UserError(f"data.table.normal: no row has the label {unknown[0]!r}; there are {some_labels}")
        return ["normal", "anomaly"]
    return sorted(labels, key=_natural)


def _natural(label: str) -> tuple[float, str]:
    """Numbers by size, then the rest by name."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
