"""Records of flow runs: request and results. One JSON file per run, rewritten as a whole.

Next to it is a heartbeat while the run's process lives, on this host or on another that shares the folder.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError, meant
from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Experiment
from pipeline.store.live import LIVE_SUFFIX, heartbeat, is_live, sign_of_life

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
    stages: dict[str, StageRecord] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    unsent: int = 0  # operations that are not sent to MLflow yet
    refused: list[str] = field(default_factory=list)  # those that MLflow will not take, with its reasons

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


@contextmanager
def begin(folder: Path, recipe: Experiment) -> Iterator[Run]:
    """A new run, recorded with its resolved recipe so that it can be resumed. Inside the block it counts as running."""
    run_id = f"{recipe.name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    run = Run(run_id, recipe.name, recipe.scale)
    folder.mkdir(parents=True, exist_ok=True)
    resolved, live = folder / f"{run_id}.yaml", folder / f"{run_id}{LIVE_SUFFIX}"
    try:
        _write(live, sign_of_life())
        resolved.write_text(recipe.to_yaml())
        save(folder, run)
    except BaseException:
        (folder / f"{run_id}.json").unlink(missing_ok=True)  # first: it may exist in spite of the error
        resolved.unlink(missing_ok=True)
        live.unlink(missing_ok=True)
        raise
    with heartbeat(lambda sign: _write(live, sign), lambda: live.unlink(missing_ok=True)):
        yield run


def save(folder: Path, run: Run) -> None:
    """Write the record atomically; on failure the previous one remains."""
    _write(folder / f"{run.run_id}.json", json.dumps(asdict(run), indent=1).encode())


def all_runs(folder: Path) -> list[Run]:
    """All runs, oldest first. A run without a heartbeat while it is marked as running was interrupted.

    Damaged records are skipped with a warning.
    """
    runs = [run for path in folder.glob("*.json") if (run := _read(path)) is not None]
    return sorted(runs, key=lambda run: run.started)


def find(folder: Path, prefix: str) -> Run:
    """The newest run whose id starts with `prefix`; `last` is the newest of all."""
    runs = all_runs(folder)
    matches = [run for run in runs if prefix == "last" or run.run_id.startswith(prefix)]
    if not matches:
        hint = meant(prefix, [run.run_id for run in reversed(runs)])
        raise UserError(f"no run is called {prefix!r}; {hint} `sesame runs` lists them.".replace("  ", " "))
    return matches[-1]


def recipe_of(folder: Path, run: Run) -> Experiment:
    """The resolved recipe that the run was started with."""
    return load(folder / f"{run.run_id}.yaml", own=True)


def _read(path: Path) -> Run | None:
    try:
        run = _RUN.validate_json(path.read_bytes())
    except ValidationError as error:
        _log.warning("%s is damaged and left out: %s", path, error.errors()[0]["msg"])
        return None
    if run.status == RUNNING and not is_live(_heartbeat(path.with_suffix(LIVE_SUFFIX))):
        # The run may have ended between the two looks: its record is written before its heartbeat goes.
        run = _RUN.validate_json(path.read_bytes())
        run.status = INTERRUPTED if run.status == RUNNING else run.status
    return run


def _heartbeat(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
