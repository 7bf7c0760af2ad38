"""Descriptions in MLflow of runs, models and experiments, with their results and baselines.

Descriptions are Markdown, short enough for a tag. Charts show losses, held-out metrics, speed and metrics of jobs; all
other numbers of a summary go into `summary.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.legible import escaped, prose
from pipeline.gate import ENCODER, FINE_TUNED
from pipeline.reports.report import Report, markdown
from training.monitor import names
from training.monitor.names import speed_of


def is_chart(name: str) -> bool:
    """Whether a number of training belongs among the charts: losses and speed do, bookkeeping does not."""
    return name.startswith((names.TRAIN, names.VALIDATION, names.SPEED)) or name in (names.SKIPPED, names.SPIKES)


def of_experiment(recipe: Any) -> str:
    """An experiment: all runs of a recipe."""
    title = f"# {escaped(recipe.title or recipe.name)}"
    return "\n\n".join(filter(None, [title, prose(recipe.reproduces), _kind(recipe)]))


def of_comparison(comparison: Any) -> str:
    """An experiment: all times that something was compared."""
    return "\n\n".join(
        filter(None, [f"# {escaped(comparison.title or comparison.name)}", prose(comparison.reproduces)])
    )


def of_flow(
    recipe: Any,
    pretraining: Mapping[str, Any] | None = None,
    reports: Mapping[str, Report] | None = None,
    suite: Report | None = None,
) -> str:
    """A run of a recipe, with the results so far; of a suite its table in place of those of its jobs."""
    scale = f", scale {escaped(recipe.scale)}" if recipe.scale else ""
    parts = [f"# {escaped(recipe.title or recipe.name)}"]
    parts += [f"Recipe {escaped(recipe.name)}{scale}. {prose(recipe.reproduces)}".rstrip()]
    parts += [_kind(recipe)]
    if suite is not None:
        parts += [f"## {escaped(suite.title)}", markdown(suite.tables[0]), prose(suite.verdict)]
    of_suite = suite.notes["jobs"] if suite else []
    for name, report in (reports or {}).items():
        parts += [f"## {escaped(report.title)}", prose(report.verdict)]
        parts += [] if name in of_suite else [markdown(report.tables[0])]
    if pretraining is not None:
        parts += ["## Pretraining", _pretraining(pretraining)]
    return "\n\n".join(parts)


def of_job(report: Report) -> str:
    """A job: its verdict, first table, some examples, and its protocol."""
    parts = [f"# {escaped(report.title)}", prose(report.verdict), markdown(report.tables[0])]
    for table in report.examples:
        parts += [f"## {escaped(table.title)}", markdown(table)]
    return "\n\n".join([*parts, prose(report.about)])


def of_model(recipe: str, kind: str) -> str:
    """A registered model: all its versions."""
    use = {
        ENCODER: "The encoder of recipe {}. `predict` takes texts and gives the vectors of `sesame embed`.",
        FINE_TUNED: "A fine-tuned network of recipe {}. `predict` takes rows with the columns of its signature and "
        "gives an answer to each and how sure it is. It runs where Sesame is installed in a version that reads it.",
    }[kind].format(escaped(recipe))
    return (
        f"{use} Version "
        "`@champion` is the one in use, `@challenger` the newest that did not take its place: scores are compared on "
        "the same evaluation, and every version says what was decided."
    )


def _kind(recipe: Any) -> str:
    network = recipe.network.architecture
    if hasattr(recipe, "init"):
        return f"A {escaped(network)} network that exists already, from {escaped(recipe.init.folder)}."
    return f"A {escaped(network)} network learns from {recipe.data.kind} by the objective {recipe.objective.name}."


def _pretraining(summary: Mapping[str, Any]) -> str:
    held_out = ", ".join(f"{name} {value:.4g}" for name, value in sorted(names.single(names.held_out(summary)).items()))
    figures = f" On held-out rows: {held_out}." if held_out else ""
    return f"{summary['step']:,} steps, {summary['samples']:,} samples, {speed_of(summary)} at the end.{figures}"
