"""Where Sesame keeps its things: `SESAME_HOME`, by default `./.sesame`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from data_prep import private
from pipeline.store.store import Store

FOLDERS = frozenset(
    (
        *("runs", "store", "downloads", "detectors", "comparisons", "mlflow", "prefect", "tracking", "servers"),
        *("sweeps", "ui.log"),  # sweeps: of older versions
    )
)
DATABASES = ("mlflow/mlflow.db", "prefect/prefect.db")


@dataclass(frozen=True)
class Home:
    """The folder with the store, downloads, run records, and the data of MLflow and Prefect."""

    path: Path

    @staticmethod
    def find() -> Home:
        """The home that the environment names; if other users may enter it, it is closed, or that is reported."""
        home = Home(Path(os.environ.get("SESAME_HOME", ".sesame")).expanduser().absolute())
        home.close()
        return home

    def close(self) -> None:
        """Close the folder to other users, or what is ours in it where it holds other things, too."""
        try:
            names = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        except OSError:  # missing, or not readable: its users will report that
            return
        if names <= FOLDERS:
            private.close_folder(self.path, DATABASES)
        else:
            for name in sorted(names & FOLDERS):
                private.close_folder(self.path / name)

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def prefect(self) -> Path:
        return self.path / "prefect"

    @property
    def servers(self) -> Path:
        """Servers that run for this home, and their password."""
        return self.path / "servers"

    @property
    def downloads(self) -> Path:
        return self.path / "downloads"

    @property
    def detectors(self) -> Path:
        """Champions of detectors; see `pipeline.scoring.champion`."""
        return self.path / "detectors"

    @property
    def comparisons(self) -> Path:
        """Reports of comparisons and sweeps."""
        return self.path / "comparisons"

    def store(self) -> Store:
        """The artifact store: `SESAME_STORE` (a folder or a URI such as s3://bucket/folder), else inside this home."""
        return Store(os.environ.get("SESAME_STORE") or self.path / "store")
