"""Where Sesame keeps its things: `SESAME_HOME`, by default `./.sesame`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.store import Store


@dataclass(frozen=True)
class Home:
    """The folder with the store, downloads, run records, and the data of MLflow and Prefect."""

    path: Path

    @staticmethod
    def find() -> Home:
        return Home(Path(os.environ.get("SESAME_HOME", ".sesame")).expanduser().absolute())

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

    def store(self) -> Store:
        """The artifact store: `SESAME_STORE` (a folder or a URI such as s3://bucket/folder), else inside this home."""
        return Store(os.environ.get("SESAME_STORE") or self.path / "store")
