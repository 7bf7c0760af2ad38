"""Carries out a recipe for a command: from the store where all of it is there, else by its Prefect flow."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console

from flows.exit_codes import INTERRUPTED, TERMINATED
from flows.machine import prefect_server
from flows.machine.signals import terminated, terminations_as_interrupts
from flows.show.console import say
from pipeline import runs as records
from pipeline.home import Home
from pipeline.recipe.recipe import Experiment

GOES_ON = "`sesame resume last` goes on from the newest checkpoint"


def made(
    home: Home,
    recipe: Experiment,
    asked: tuple[str, str | None, Sequence[str]],
    console: Console,
    goes_on: str = GOES_ON,
) -> records.Run:
    """The finished run of a recipe. asked: see `flows.pretrain.run`; goes_on: how to go on after an interrupt.

    Raises what a stage raised; SystemExit after an interrupt.
    """
    return stored_run(home, recipe) or carry_out(home, recipe, asked, console, goes_on)


def stored_run(home: Home, recipe: Experiment) -> records.Run | None:
    """A run whose stages are all stored, without Prefect, Ray or MLflow; None if anything is left to do.

    What comes after the stages, such as comparing detectors, is done only if a run of these stages ended well.
    """
    from pipeline import dag

    began = time.monotonic()
    planned = dag.plan(dag.nodes(recipe, home.downloads), home.store())
    keys = {item.node.name: item.artifact.key for item in planned if item.artifact}
    if len(keys) < len(planned) or not any(
        (run.recipe, run.status) == (recipe.name, records.DONE)
        and keys == {name: stage.artifact for name, stage in run.stages.items()}
        for run in records.all_runs(home.runs)
    ):
        return None
    with records.begin(home.runs, recipe) as record:
        for item in planned:
            assert item.artifact is not None
            record.reuse(item.node.name, item.artifact)
        record.status, record.seconds = records.DONE, round(time.monotonic() - began, 3)
        records.save(home.runs, record)
    return record


def carry_out(
    home: Home,
    recipe: Experiment,
    asked: tuple[str, str | None, Sequence[str]],
    console: Console,
    goes_on: str = GOES_ON,
) -> records.Run:
    from flows.show.console import StageProgress
    from pipeline import dag

    names = [node.name for node in dag.nodes(recipe, home.downloads)]
    try:
        with terminations_as_interrupts(), StageProgress(console, names) as progress:
            progress.start(names[0], "starting Prefect")
            prefect_server.begin(home.prefect)
            from flows import pretrain  # seconds, while the server starts

            prefect_server.wait(home.prefect)
            return pretrain.run(home, recipe, asked, progress)
    except KeyboardInterrupt:
        say(f"interrupted; {goes_on}")
        sys.exit(TERMINATED if terminated.is_set() else INTERRUPTED)
