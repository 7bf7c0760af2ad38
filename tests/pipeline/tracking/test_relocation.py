"""What MLflow keeps of a home follows it, and a copy never writes into the original."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking.mlflow_server import Server, default_uri
from pipeline.tracking.relocation import ADDRESSES, NOTE, relocate
from pipeline.tracking.tracking import Tracker


def addresses(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection:
        columns = [(table, column) for table, columns in ADDRESSES.items() for column in columns]
        return [row[0] for table, column in columns for row in connection.execute(f"SELECT {column} FROM {table}")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose database has addresses in it, as URIs and as paths, and one that is elsewhere."""
    home = tmp_path / "first home"
    (home / "mlflow").mkdir(parents=True)
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection, connection:
        for table, columns in ADDRESSES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            for address in (f"{home.as_uri()}/mlflow/artifacts/x/1", f"{home}/mlflow/artifacts", "s3://far/away", None):
                places = ", ".join("?" * len(columns))
                connection.execute(f"INSERT INTO {table} VALUES ({places})", [address] * len(columns))
    return home


def test_addresses_follow_the_home(home: Path, tmp_path: Path) -> None:
    assert relocate(home) == 0
    before = addresses(home)
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    assert relocate(copy) == 2 * sum(map(len, ADDRESSES.values()))
    assert set(addresses(copy)) == {
        f"{copy.as_uri()}/mlflow/artifacts/x/1",
        f"{copy}/mlflow/artifacts",
        "s3://far/away",
        None,
    }
    assert addresses(home) == before and relocate(copy) == 0
    home.rename(tmp_path / "second")
    (tmp_path / "second" / "mlflow" / NOTE).write_text("")  # as a machine that stopped may leave it
    relocate(tmp_path / "second")
    assert not any("first" in address for address in addresses(tmp_path / "second") if address)


def test_a_home_without_a_database_has_nothing_to_move(tmp_path: Path) -> None:
    assert relocate(tmp_path) == 0


def test_files_of_another_home_stay_there(tmp_path: Path) -> None:
    first, second, moved = (tmp_path / name for name in ("first", "second", "moved"))
    assert Server(first, None).answers()
    tracker = Tracker(second, default_uri(first), "shared", "one")  # the same database, files in a home of its own
    with tracker.run("run") as run:
        run.text("kept", "note.txt")
    assert tracker.close() == 0
    for home in (first, moved):
        client = Server(home, None).client
        experiment = client.get_experiment_by_name("shared")
        assert experiment is not None and experiment.artifact_location == f"{second.as_uri()}/mlflow/artifacts/shared"
        (run_kept,) = client.search_runs([experiment.experiment_id])
        assert [file.path for file in client.list_artifacts(run_kept.info.run_id)] == ["note.txt"]
        if home is first:
            first.rename(moved)
