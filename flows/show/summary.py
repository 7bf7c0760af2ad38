"""Prints the summary of a finished run: results, where the files are, and what to try next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.gate import DETECTOR, FINE_TUNED
from pipeline.recipe.load import recipes
from pipeline.reports.report import Report, of_values, read
from pipeline.reports.report import Table as ReportTable
from pipeline.runs import Run
from training.monitor import names

MOST_REFUSED = 3


def summarise(run: Run, console: Console) -> None:
    """Print the outcome of a finished run; nothing if it has no report."""
    stage = run.stages.get("report")
    if stage is None:
        return
    folder = Path(stage.path)
    report = json.loads((folder / "report.json").read_text())
    console.print()
    if all(record.reused for record in run.stages.values()):
        console.print(Text("Everything was already in the store; nothing was run again.", "cyan"))
    console.print(_pretraining(report) if "pretraining" in report else _network(report["network"]))
    jobs = {name: read(Path(run.stages[name].path)) for name in report["downstream"]}
    of_suite: list[str] = []
    if "suite" in report:
        suite = of_values(report["suite"])
        of_suite = suite.notes["jobs"]
        _show(suite, console)
        console.print()
    for name, job in jobs.items():
        if name in of_suite:
            console.print(Text(f"{job.title}  ", "bold").append(job.verdict, "not bold"))
        else:
            _show(job, console)
    console.print()
    console.print(Text("report   ", "bold").append(short(folder / "report.md"), "not bold"), soft_wrap=True)
    console.print(Text("figures  ", "bold").append(short(folder / "figures"), "not bold"), soft_wrap=True)
    network = run.stages["pretrain"] if "pretrain" in run.stages else run.stages["init"]
    model = Path(network.path) / "model"
    console.print(Text("model    ", "bold").append(short(model), "not bold"), soft_wrap=True)
    console.print(Text("MLflow   ", "bold").append("`sesame ui` prints the link", "not bold"))
    if run.unsent:
        console.print(
            Text(f"MLflow did not take {run.unsent} records yet; they are kept and sent by the next run.", "yellow")
        )
    for refusal in run.refused[:MOST_REFUSED]:
        console.print(Text(f"MLflow refused a record, which it does not show: {refusal}", "yellow"), soft_wrap=True)
    if len(run.refused) > MOST_REFUSED:
        console.print(Text(f"MLflow refused {len(run.refused) - MOST_REFUSED} more.", "yellow"))
    console.print(Text("\nTry next", "bold"))
    for line in _next_steps(run, jobs, bool(of_suite)):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _pretraining(report: dict[str, Any]) -> Text:
    """Metrics of pretraining on held-out rows, as text."""
    held_out = names.held_out(report["pretraining"])
    shown = [name for name in report["pretraining"]["shown"] if name in held_out]
    parts = [f"{name.replace('_', ' ')} {held_out[name]:.3f}" for name in shown]
    return Text("Pretraining, on held-out rows: ", "bold").append(", ".join(parts), "not bold")


def _network(network: Mapping[str, Any]) -> Text:
    about = f"{network['architecture']}, {network['parameters']:,} parameters"
    return Text("Network: ", "bold").append(about, "not bold")


def _show(job: Report, console: Console) -> None:
    """Print a job's title, first table, verdict and some examples."""
    main_table = job.tables[0]
    console.print(Text(f"\n{job.title}: {main_table.title[:1].lower()}{main_table.title[1:]}", "bold"))
    console.print(grid(main_table))
    console.print(Text(job.verdict))
    for table in job.examples:
        console.print(Text(f"\n{table.title}", "bold"))
        console.print(grid(table))


def grid(table: ReportTable) -> Table:
    """A report's table for a terminal."""
    grid = Table(*table.columns, box=None, header_style="bold", pad_edge=False)
    for row in table.rows:
        style = "bold green" if row[0].startswith("**") else ""  # bold on the page, too
        grid.add_row(*(Text(cell.strip("*"), style) for cell in row))
    return grid


def _next_steps(run: Run, jobs: Mapping[str, Report], has_suite: bool) -> list[str]:
    steps = []
    if "shards" in run.stages:
        artifact = run.stages["shards"].artifact
        steps.append(f"sesame inspect {artifact}    see what the network saw, and what it had to guess")
    steps += [
        "sesame ui    curves, figures and the registered model in MLflow; the flow's stages in Prefect",
    ]
    for name, job in jobs.items():
        for candidate in job.candidates:
            if candidate.kind == FINE_TUNED:
                steps.append(f"sesame predict {run.run_id}/{name} FILE --out answers.jsonl    answers to other rows")
            elif candidate.kind == DETECTOR:
                folder = shlex.quote(short(Path(run.stages[name].path) / candidate.path))
                steps.append(
                    f"sesame score {folder} FILES --out scores.arrow    scores, flags and reasons of other rows"
                )
    larger = _larger_scale(run.recipe, run.scale)
    if larger:
        reason = "a larger network, trained for longer" if "pretrain" in run.stages else "more labels and repetitions"
        folder = " --set suite.folder=FOLDER" if has_suite else ""
        steps.append(f"sesame run {run.recipe} --scale {larger}{folder}    {reason}")
    return steps


def _larger_scale(recipe: str, scale: str | None) -> str | None:
    """The next larger scale of a packaged recipe; None if there is none."""
    scales = next((listing.scales for listing in recipes() if listing.name == recipe), [])
    following = scales[scales.index(scale) + 1 :] if scale in scales else []
    return following[0] if following else None


def short(path: Path) -> str:
    """A path, relative to the current folder if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
