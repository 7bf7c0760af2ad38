"""Columns of tables, and classes of all splits, as tables for MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.reports.tables import Table, write


def data_tables(stats: dict[str, Any], dropped: dict[str, str], folder: Path) -> None:
    """Write them as tables for MLflow. `dropped`: columns that became no feature, and why."""
    rows = [
        [name, label, count] for name, split in stats["splits"].items() for label, count in split["classes"].items()
    ]
    tables = {"splits": Table(["split", "class", "rows"], rows)}
    if "columns" in stats:
        numbers, words = ["missing", "mean", "std", "levels"], ["name", "kind", "min", "max"]
        lines = [
            [
                *(str(column.get(name, "")) for name in words),
                *(column.get(name) for name in numbers),
                dropped.get(column["name"]),
            ]
            for column in stats["columns"]
        ]
        tables["columns"] = Table([*words, *numbers, "dropped"], lines)
    write(tables, folder)
