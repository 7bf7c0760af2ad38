"""One recipe, several values of some settings: a run for each combination, one table and one figure.

Runs are made one after another and share what they can: data is prepared once, and a sweep that is repeated or extended
makes only what is new. A combination that fails is noted in the table and does not end the others.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.errors import UserError
from pipeline.home import Home
from pipeline.records import read_records
from pipeline.reports import data
from pipeline.runs import Run
from pipeline.tracking.tracking import Tracker
from training.job import METRICS
from training.monitor.names import HELD_OUT_LOSS, LOSS, speeds

SCORE = HELD_OUT_LOSS
PRETRAINING_ALONE = "downstream=[]"
MLFLOW_TIMEOUT = 30.0


@dataclass
class Trial:
    """One combination and its result."""

    settings: dict[str, str]
    artifact: str = ""
    score: float | None = None
    per_second: float | None = None
    unit: str = "tokens"  # of what
    seconds: float = 0.0
    error: str = ""


def combinations(over: Sequence[str]) -> list[dict[str, str]]:
    """Every combination of `path=value,value…`. Raises UserError for a malformed list."""
    axes: dict[str, list[str]] = {}
    for axis in over:
        path, equals, values = axis.partition("=")
        choices = [value.strip() for value in values.split(",")]
        if not (path and equals and all(choices)):
            raise UserError(f"--over: found {axis!r}; give a setting and its values, as train.lr=1e-4,3e-4,1e-3.")
        if path in axes or len(set(choices)) < len(choices):
            raise UserError(f"--over: {axis!r} names a setting or a value twice.")
        axes[path] = choices
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def sweep(
    home: Home, name: str, trials: Sequence[dict[str, str]], make: Callable[[list[str]], Run], console: Console
) -> Path:
    """Make a run of each combination with `make(settings)`; returns the folder of sweep.json, sweep.md, sweep.png."""
    finished: list[Trial] = []
    curves: dict[str, list[dict[str, Any]]] = {}
    for number, settings in enumerate(trials, start=1):
        label = _label(settings)
        console.print(Text(f"\n{number} of {len(trials)}: {label}", "bold"))
        trial = Trial(settings)
        finished.append(trial)
        try:
            run = make([f"{path}={value}" for path, value in settings.items()])
        except UserError as error:
            trial.error = str(error)
            console.print(Text(f"failed: {error}", "red"), soft_wrap=True)
            continue
        pretraining = run.stages["pretrain"]
        trial.artifact, trial.seconds = pretraining.artifact, pretraining.seconds
        trial.score = run.metrics.get(f"pretrain.{SCORE}", run.metrics.get(f"pretrain.{LOSS}"))
        of_pretraining = {name.removeprefix("pretrain."): value for name, value in run.metrics.items()}
        for unit, value in speeds(of_pretraining).items():
            trial.per_second, trial.unit = value, unit
        curves[label] = read_records(Path(pretraining.path) / METRICS)
    sweep_id = f"{name}-sweep-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = home.path / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps([asdict(trial) for trial in finished], indent=1))
    (folder / "sweep.md").write_text(page(name, finished))
    if curves:
        scores = {_label(trial.settings): trial.score for trial in finished if trial.score is not None}
        data.sweep(curves, scores, folder / "sweep.png")
    _track(home, name, sweep_id, finished, folder)
    return folder


def table(trials: Sequence[Trial]) -> Table:
    """The trials as a table for a terminal; the best is green."""
    best = _best(trials)
    rendered = Table(*_columns(trials), box=None, header_style="bold", pad_edge=False)
    for trial in trials:
        rendered.add_row(*_cells(trial), style="green" if trial is best else "red" if trial.error else "")
    return rendered


def page(name: str, trials: Sequence[Trial]) -> str:
    """The trials as a Markdown page."""
    columns, best = _columns(trials), _best(trials)
    lines = [f"# Sweep of {name}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cells(trial))} |" for trial in trials]
    if best:
        lines += ["", f"Lowest held-out loss: {_label(best.settings)}."]
    return "\n".join(lines) + "\n"


def _columns(trials: Sequence[Trial]) -> list[str]:
    unit = next((trial.unit for trial in trials if trial.per_second is not None), trials[0].unit)
    return [*trials[0].settings, "held-out loss", f"{unit}/s", "artifact"]


def _cells(trial: Trial) -> list[str]:
    score = "–" if trial.score is None else f"{trial.score:.4f}"
    speed = "–" if trial.per_second is None else f"{trial.per_second:,.0f}"
    return [*trial.settings.values(), score, speed, trial.artifact or trial.error]


def _best(trials: Sequence[Trial]) -> Trial | None:
    return min((trial for trial in trials if trial.score is not None), key=lambda t: t.score or 0.0, default=None)


def _label(settings: dict[str, str]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in settings.items())


def _track(home: Home, name: str, sweep_id: str, trials: Sequence[Trial], folder: Path) -> None:
    with (
        Tracker(home.path, os.environ.get("MLFLOW_TRACKING_URI"), name, sweep_id) as tracker,
        tracker.run(sweep_id, tags={"stage": "sweep", "recipe": name}) as run,
    ):
        columns = _columns(trials)
        rows = [_cells(trial) for trial in trials]
        run.table([column.replace(".", "_") for column in columns], rows, "sweep.json")
        for path in sorted(folder.iterdir()):
            if path.suffix in (".md", ".png"):
                run.artifact(path)
        best = _best(trials)
        if best and best.score is not None:
            run.metrics({"best_validation_loss": best.score}, step=0)
            run.tags({"best": _label(best.settings), "best.artifact": best.artifact})
