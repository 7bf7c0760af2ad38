"""Tables in MLflow's format, which it shows side by side for several runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Column names without dots (MLflow's page would split them), and rows of as many values."""

    columns: list[str]
    data: list[list[Any]]


def write(tables: Mapping[str, Table], folder: Path) -> None:
    """Write a file for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table._asdict(), allow_nan=False) + "\n", encoding="ascii")
