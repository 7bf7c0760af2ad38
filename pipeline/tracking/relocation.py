"""Lets the SQLite file of a home move with it: MLflow keeps where files lie as absolute addresses."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

ADDRESSES = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "model_versions": ["source", "storage_location"],
    "logged_models": ["artifact_location"],
}
"""Columns of MLflow's tables that hold addresses of files."""
_IN_HOME = re.compile(r"(?P<home>(?P<scheme>file://)?/.*?)/mlflow/artifacts(?:/|$)")


def relocate(home: Path) -> int:
    """Change addresses in another home, where this one was or was copied from, to addresses in `home`; how many were.

    Without it, a copied home would write into the original's files.
    """
    home = home.absolute()
    database = home / "mlflow" / "mlflow.db"
    if not database.is_file() or not database.stat().st_size:
        return 0
    changed = 0
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, columns in ADDRESSES.items():
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in columns:
                if column in there:
                    changed += _changed(connection, table, column, home)
    return changed


def _changed(connection: sqlite3.Connection, table: str, column: str, home: Path) -> int:
    """Change the addresses in a column."""
    moves: dict[str, str] = {}
    for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
        match = _IN_HOME.match(address or "")
        now = home.as_uri() if match and match["scheme"] else str(home)
        if match and match["home"] != now:
            moves[match["home"]] = now
    return sum(
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
            (now, len(before) + 1, len(f"{before}/mlflow/artifacts"), f"{before}/mlflow/artifacts"),
        ).rowcount
        for before, now in moves.items()
    )
