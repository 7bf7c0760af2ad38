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
NOTE = ".mlflow.db.home"
"""Next to the database: the home it was last opened in."""
_IN_HOME = re.compile(r"(?P<home>(?P<scheme>file://)?/.*?)/mlflow/artifacts(?:/|$)")


def relocate(home: Path) -> int:
    """Change addresses in the home this one was, or was copied from, to addresses in `home`; how many were.

    Without it, a copied home would write into the original's files. Addresses in a third home, which may use this
    database too, stay as they are; a home without a note of where it was has all of its addresses changed.
    """
    home = home.absolute()
    database = home / "mlflow" / "mlflow.db"
    note = database.with_name(NOTE)
    if not database.is_file() or not database.stat().st_size:
        return 0
    noted = note.read_text(encoding="utf-8") if note.is_file() else ""
    before = noted if Path(noted).is_absolute() else None  # a machine that stopped may have left it empty
    if before == str(home):
        return 0
    changed = 0
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, columns in ADDRESSES.items():
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in columns:
                if column in there:
                    changed += _changed(connection, table, column, before, home)
    note.write_text(str(home), encoding="utf-8")  # last: what was interrupted is done again
    return changed


def _changed(connection: sqlite3.Connection, table: str, column: str, before: str | None, home: Path) -> int:
    """Change the addresses in a column that lie in the home `before`; in any other home if that is not known."""
    moved_from = None if before is None else {before, Path(before).as_uri()}
    moves: dict[str, str] = {}
    for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
        match = _IN_HOME.match(address or "")
        now = home.as_uri() if match and match["scheme"] else str(home)
        if match and match["home"] != now and (moved_from is None or match["home"] in moved_from):
            moves[match["home"]] = now
    return sum(
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
            (now, len(old) + 1, len(f"{old}/mlflow/artifacts"), f"{old}/mlflow/artifacts"),
        ).rowcount
        for old, now in moves.items()
    )
