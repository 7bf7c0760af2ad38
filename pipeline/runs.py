"""Records of flow runs: request and results. One JSON file per run, rewritten as a whole."""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe

_log = logging.getLogger(__name__)

DONE, RUNNING, FAILED, INTERRUPTED = "done", "running", "failed", "interrupted"


@dataclass
class StageRecord:
    """The result of one node of the DAG."""

    artifact: str
    path: str
    reused: bool
    seconds: float


@dataclass
class Run:
    """One run of a recipe."""

    run_id: str
    recipe: str
    scale: str | None
    status: str = RUNNING
    started: float = field(default_factory=time.time)
    seconds: float = 0.0
    pid: int = field(default_factory=os.getpid)
    stages: dict[str, StageRecord] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    unsent: int = 0  # operations that are not sent to MLflow yet

    def reuse(self, name: str, artifact: Artifact) -> None:
        """Record a node that was stored already."""
        self.note(name, artifact, reused=True, seconds=0.0)

    def note(self, name: str, artifact: Artifact, reused: bool, seconds: float) -> None:
        """Record the result of a node, and the numbers of its summary as `NODE.NAME`."""
        self.stages[name] = StageRecord(artifact.key, str(artifact.path), reused, round(seconds, 3))
        self.metrics.update({f"{name}.{key}": value for key, value in numbers(artifact.summary).items()})

    def public(self) -> dict[str, Any]:
        """The values that `--json` prints."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "stages": {name: asdict(record) for name, record in self.stages.items()},
            "metrics": self.metrics,
        }


_RUN = TypeAdapter(Run)


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a summary, nested ones by dotted name; flags and texts are left out."""
    return {
        name: float(value)
        for name, value in flatten(dict(summary)).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def begin(folder: Path, recipe: Recipe) -> Run:
    """A new run, recorded with its resolved recipe so that it can be resumed."""
    run_id = f"{recipe.name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    run = Run(run_id, recipe.name, recipe.scale)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = folder / f"{run_id}.yaml"
    try:
        resolved.write_text(recipe.to_yaml())
        save(folder, run)
    except BaseException:
        (folder / f"{run_id}.json").unlink(missing_ok=True)  # first: it may exist in spite of the error
        resolved.unlink(missing_ok=True)
        raise
    return run


def save(folder: Path, run: Run) -> None:
    """Write the record atomically; on failure the previous one remains."""
    temporary = folder / f".{run.run_id}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(asdict(run), indent=1))
        temporary.replace(folder / f"{run.run_id}.json")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def all_runs(folder: Path) -> list[Run]:
    """All runs, oldest first. A run whose process is gone while it is marked as running was interrupted.

    Damaged records are skipped with a warning.
    """
    runs = [run for path in folder.glob("*.json") if (run := _read(path)) is not None]
    return sorted(runs, key=lambda run: run.started)


def find(folder: Path, prefix: str) -> Run:
    """The newest run whose id starts with `prefix`; `last` is the newest of all."""
    matches = [run for run in all_runs(folder) if prefix == "last" or run.run_id.startswith(prefix)]
    if not matches:
        raise UserError(f"no run is called {prefix!r}; `sesame runs` lists them.")
    return matches[-1]


def recipe_of(folder: Path, run: Run) -> Recipe:
    """The resolved recipe that the run was started with."""
    return load(folder / f"{run.run_id}.yaml")


def _read(path: Path) -> Run | None:
    try:
        run = _RUN.validate_json(path.read_bytes())
    except ValidationError as error:
        _log.warning("%s is damaged and left out: %s", path, error.errors()[0]["msg"])
        return None
    if run.status == RUNNING and not _alive(run.pid):
        run.status = INTERRUPTED
    return run


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
