"""Comparisons and sweeps: a run for each arm and seed, one report of all.

Runs are ordinary ones, made one after another, and share what they can: data is prepared once for all arms of a seed
that read it alike, and a comparison that was killed, repeated or extended makes only what is new. A run that fails is
named in the report and does not end the others. A sweep is a comparison of all combinations of some settings by the
held-out loss.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from data_prep.errors import UserError
from data_prep.legible import masked
from flows import making
from flows.exit_codes import FAILED
from flows.machine.environment import prepare
from flows.show import comparison as shown
from flows.show.console import new_console
from pipeline.home import Home
from pipeline.recipe.comparison import PRETRAIN, SEED, BaseConfig, Compared, Comparison, ScoreConfig, Trial
from pipeline.recipe.load import load
from pipeline.recipe.parse import parse_setting
from pipeline.records import read_records
from pipeline.reports import comparison as report
from pipeline.reports.report import FIGURES, Report, write
from pipeline.runs import Run
from pipeline.tracking import pages
from pipeline.tracking.tracking import Tracker
from training.job import METRICS
from training.monitor.names import HELD_OUT_LOSS, speed_of

GOES_ON = "the same command goes on with the comparison from the newest checkpoint"
Make = Callable[[Trial], Run]

log = logging.getLogger("sesame.flows")


def run(compared: Compared, as_json: bool) -> None:
    """Make every run, write the report, and print it. Exits with FAILED if no run could be made."""
    home, console = Home.find(), new_console(stderr=as_json)
    prepare(home.prefect)

    def make(trial: Trial) -> Run:
        base = compared.comparison.base
        asked = (base.recipe, base.scale, compared.settings(trial))
        return making.made(home, compared.recipe(trial), asked, console, GOES_ON)

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        folder, made, results = compare(home, compared, make, console)
    if as_json:
        trials = [asdict(result) for result in results]
        print(json.dumps({"folder": str(folder), "verdict": made.verdict, "numbers": made.numbers, "trials": trials}))
    else:
        shown.result(made, folder, console)
    if all(result.error for result in results):
        sys.exit(FAILED)


def compare(home: Home, compared: Compared, make: Make, console: Console) -> tuple[Path, Report, list[report.Result]]:
    """Make a run of each arm and seed. Returns the folder of the report, the report, and what the runs gave."""
    results: list[report.Result] = []
    curves: dict[str, list[list[dict[str, Any]]]] = {}
    trials = compared.trials
    for number, trial in enumerate(trials, start=1):
        console.print(Text(f"\n{number} of {len(trials)}: {trial.arm}, seed {trial.seed}", "bold"))
        result = report.Result(trial.arm, trial.seed, [masked(setting) for setting in compared.settings(trial)])
        results.append(result)
        try:
            made = make(trial)
            _read(made, compared.comparison.scores, result)
        except Exception as error:
            result.error = masked(str(error) or type(error).__name__)
            console.print(Text(f"failed: {result.error}", "red"), soft_wrap=True)
            if not isinstance(error, UserError):
                log.exception("%s, seed %s failed", trial.arm, trial.seed)
            continue
        curves.setdefault(trial.arm, []).append(read_records(Path(made.stages[PRETRAIN].path) / METRICS))
    name = compared.comparison.name
    comparison_id = f"{name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = home.comparisons / comparison_id
    folder.mkdir(parents=True)
    made_report = report.build(compared.comparison, results, curves, folder / FIGURES)
    write(made_report, folder)
    _track(home, compared, comparison_id, made_report, results, folder)
    return folder, made_report, results


def sweep_of(recipe: str, scale: str | None, settings: Sequence[str], over: Sequence[str]) -> Compared:
    """All combinations of some settings as a comparison by the held-out loss, with pretraining only.

    over: `path=value,value…`. Raises UserError for a malformed list, or a combination that is no recipe.
    """
    loaded = load(recipe, scale, settings)
    chosen = combinations(over)
    seeds = [parse_setting(f"{SEED}={settings[SEED]}")[1] for settings in chosen if SEED in settings] or [loaded.seed]
    if not all(isinstance(seed, int) for seed in seeds):
        raise UserError(f"--over: found {seeds} as seeds; allowed: whole numbers.")
    arms = [{path: value for path, value in settings.items() if path != SEED} for settings in chosen]
    comparison = Comparison(
        name=f"{loaded.name}-sweep",
        title=f"Sweep of {loaded.name}",
        base=BaseConfig(recipe=recipe, scale=scale),
        settings={"downstream": []},
        arms={_label(arm) or loaded.name: dict(parse_setting(f"{p}={v}") for p, v in arm.items()) for arm in arms},
        seeds=list(dict.fromkeys(seeds)),
        scores=[ScoreConfig(name="held-out loss", number=HELD_OUT_LOSS, better="lower")],
    )
    shared = [setting for setting in settings if parse_setting(setting)[0] != SEED]
    return Compared(comparison, "--over", shared).checked()


def _label(arm: Mapping[str, str]) -> str:
    """`lr 1e-3, steps 100`; whole paths where two end alike."""
    ends = {path.rpartition(".")[2] for path in arm}
    return ", ".join(f"{path.rpartition('.')[2] if len(ends) == len(arm) else path} {v}" for path, v in arm.items())


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


def _read(made: Run, scores: Sequence[ScoreConfig], result: report.Result) -> None:
    """Take an arm's scores from its run. UserError if it lacks one."""
    pretraining = made.stages[PRETRAIN]
    result.run_id, result.artifact, result.seconds = made.run_id, pretraining.artifact, made.seconds
    prefix = f"{PRETRAIN}."
    result.speed = speed_of(
        {name.removeprefix(prefix): v for name, v in made.metrics.items() if name.startswith(prefix)}
    )
    for score in scores:
        value = made.metrics.get(f"{score.stage}.{score.number}")
        if value is None:
            known = [n.removeprefix(f"{score.stage}.") for n in made.metrics if n.startswith(f"{score.stage}.")]
            raise UserError(f"{score.stage} of the run made no {score.number!r}; it made {', '.join(known) or 'none'}.")
        result.scores[score.name] = value


def _track(
    home: Home,
    compared: Compared,
    comparison_id: str,
    made: Report,
    results: Sequence[report.Result],
    folder: Path,
) -> None:
    """In MLflow a run of the whole comparison, and in it one for each arm and seed that names the run it stands for."""
    comparison = compared.comparison
    tags = {"stage": "comparison", "recipe": comparison.base.recipe, "scale": comparison.base.scale or ""}
    address = os.environ.get("MLFLOW_TRACKING_URI")
    with (
        Tracker(home.path, address, comparison.name, comparison_id) as tracker,
        tracker.run(comparison_id, tags=tags, experiment=pages.of_comparison(comparison)) as whole,
    ):
        whole.describe(pages.of_job(made))
        whole.metrics(made.numbers, step=0)
        whole.text(compared.to_yaml(), "comparison.yaml")
        whole.artifact(folder)
        for file in sorted((folder / "tables").glob("*.json")):
            whole.table(**json.loads(file.read_text(encoding="utf-8")), file=f"tables/{file.name}")
        for result in results:
            settings = dict(map(parse_setting, result.settings))
            of_run = {"arm": result.arm, "run": result.run_id, "artifact": result.artifact, "error": result.error}
            child = tracker.run(f"{result.arm}, seed {result.seed}", whole, of_run, {"arm": result.arm, **settings})
            child.metrics(result.scores, step=0)
            child.end("FAILED" if result.error else "FINISHED")
