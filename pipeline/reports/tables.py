"""Tables as MLflow shows them, beside one another for several runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Names of columns, which hold no dots (MLflow's page takes them apart there), and rows of as many values."""

    columns: list[str]
    data: list[list[Any]]


def write(tables: Mapping[str, Table], folder: Path) -> None:
    """A file for each, which becomes a table in MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table._asdict(), allow_nan=False) + "\n", encoding="ascii")
