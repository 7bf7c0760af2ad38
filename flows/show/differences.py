"""Compares the predictions of runs: `sesame compare`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from data_prep.errors import UserError
from flows.exit_codes import usage
from flows.show.console import new_console
from pipeline import runs as records
from pipeline.downstream.compared_predictions import Comparison, compare
from pipeline.downstream.predictions_file import Part, PartKey, PredictedTask, Predictions, is_predictions, read
from pipeline.home import Home
from pipeline.reports import report
from pipeline.stages.job import JOB


def show(names: Sequence[str], as_json: bool) -> None:
    """Print the runs' scores and differences in a table, and which of these are significant.

    names: runs (`last`, `bert-0412`), jobs of runs (`last/sentiment`), or files of predictions.
    """
    with usage():
        runs = dict(_read(name, Home.find()) for name in names)
        if len(runs) < len(names):
            raise UserError(f"{', '.join(names)}: name each run once, and two at least.")
        comparison = compare(runs)
    if as_json:
        print(json.dumps(asdict(comparison)))
        return
    _print(comparison)


def _print(comparison: Comparison) -> None:
    """A heading for each task and metric, and below it a line for each run."""
    out, table = new_console(), Table(box=None, header_style="bold", pad_edge=False)
    _, _, *columns = comparison.table.columns
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    before: list[str] = []
    for line, (*of, run, score, difference, interval, p) in zip(comparison.lines, comparison.table.rows, strict=True):
        if of != before:
            table.add_row(Text(", ".join(of), "bold"))
            before = of
        cells = (f"  {run}", score, difference.strip("*"), interval, p)
        table.add_row(*(Text(cell, "bold green" if line.is_significant else "") for cell in cells))
    out.print(table)
    out.print(Text(f"\n{comparison.about}", "dim"))
    out.print(Text(f"\n{comparison.verdict}"))
    for sentence in comparison.left_out:
        out.print(Text(sentence, "yellow"))


def _read(name: str, home: Home) -> tuple[str, Predictions]:
    """A name for the table, and the predictions."""
    if name.endswith(".parquet") or Path(name).is_file():
        path = Path(name).expanduser()
        return str(path), read(path)
    run_name, _, job = name.partition("/")
    run = records.find(home.runs, run_name)
    files = dict(_files(run, home))
    if job and job not in files:
        raise UserError(f"run {run.run_id} has no predictions by a job {job!r}; {_those_of(files)}.")
    if not files:
        raise UserError(f"run {run.run_id} has no predictions: none of its jobs has finished, or none keeps them.")
    return (f"{run.run_id}/{job}", read(files[job])) if job else (run.run_id, _joined(run.run_id, files))


def _files(run: records.Run, home: Home) -> Iterator[tuple[str, Path]]:
    """The predictions of a run's jobs, by name of the job."""
    for name, stage in run.stages.items():
        artifact = home.store().resolve(stage.artifact)
        folder = artifact.path
        if artifact.stage != JOB.name or not (folder / report.FILE).is_file():
            continue
        file = report.read(folder).predictions
        if file is not None and is_predictions(folder / file):
            yield name, folder / file


def _joined(run_id: str, files: dict[str, Path]) -> Predictions:
    """The predictions of all jobs of a run. UserError if two jobs predicted the same rows."""
    tasks: dict[str, PredictedTask] = {}
    parts: dict[PartKey, Part] = {}
    for path in files.values():
        predictions = read(path)
        for part in predictions.parts:
            task = predictions.tasks[part.task]
            if part.key in parts or tasks.get(part.task, task) != task:
                raise UserError(
                    f"run {run_id} has predictions for {part.task} by more than one job; name one as {run_id}/JOB: "
                    f"{_those_of(files)}."
                )
            parts[part.key] = part
        tasks |= predictions.tasks
    return Predictions(tasks, list(parts.values()))


def _those_of(files: dict[str, Path]) -> str:
    return f"jobs with predictions are: {', '.join(files) or 'none'}"
