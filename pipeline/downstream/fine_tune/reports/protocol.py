"""How the networks of a job are trained, as its report says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.downstream.fine_tune.checks import WEIGHTED
from pipeline.downstream.fine_tune.job import Config
from pipeline.reports.report import Table


def description(job: Config) -> str:
    """What all networks have in common, in words."""
    length = f"{job.steps} steps" if job.epochs is None else f"{job.epochs:g} epoch{'s' * (job.epochs != 1)}"
    phrases = [f"{length} for every network"]
    if job.evaluate_every is not None:
        phrases.append(f"scored on validation rows every {job.evaluate_every} steps, of which the best state is kept")
    if job.early_stopping is not None:
        phrases.append(f"ended by {job.early_stopping} evaluations without a better score")
    text = ", ".join(phrases)
    if job.layer_decay != 1:
        text += f"; pretrained layers learn at {job.layer_decay:g} times the rate of the one above them"
    if job.adapters is not None:
        text += f"; of pretrained weights, adapters of rank {job.adapters.rank} (LoRA) are learned, then added to them"
    if job.class_weights is not None:
        text += f"; {_weights(job)}"
    return text


def _weights(job: Config) -> str:
    """How labels are weighted, and by which methods they are not."""
    text = "labels weighted by how rare they are"
    if isinstance(job.class_weights, dict):
        text = f"labels weighted: {', '.join(f'{label} {weight:g}' for label, weight in job.class_weights.items())}"
    alike = [name for name in job.baselines if name not in WEIGHTED]
    return f"{text} (without effect on {' and '.join(alike)})" if alike else text


def padding(cells: Sequence[Mapping[str, Any]]) -> str:
    """What share of the networks' work is padding, in a sentence; empty where it is not known."""
    shares = [100 * cell["padding"] for cell in cells if cell.get("padding") is not None]
    if not shares:
        return ""
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    return f"Of all positions in training, {low if low == high else f'{low}–{high}'} % are padding."


def tables(cells: Sequence[Mapping[str, Any]], job: Config) -> list[Table]:
    """Steps by model and number of labels, and numbers of weights that are learned, where there is something to say."""
    networks = [cell for cell in cells if cell.get("steps")]
    made = _thresholds(networks)
    if job.adapters is not None:
        weights = {cell["model"]: cell["weights"] for cell in networks}
        rows = [[model, *(f"{number:,}" for number in numbers)] for model, numbers in weights.items()]
        made.append(Table("Weights learned", ["model", "learned", "all"], rows))
    if job.epochs is None and job.evaluate_every is None:
        return made
    labels = sorted({cell["labels"] for cell in networks})
    columns = ["model", *(f"{number:,} labels" for number in labels)]
    by_place = {(cell["model"], cell["labels"]): cell for cell in networks}
    rows = [
        [model, *(_steps(cell, job) if (cell := by_place.get((model, number))) else "–" for number in labels)]
        for model in dict.fromkeys(cell["model"] for cell in networks)
    ]
    return [*made, Table("Steps taken", columns, rows)]


def _thresholds(networks: Sequence[Mapping[str, Any]]) -> list[Table]:
    """By how much “no answer” must score above the best answer to be said, where validation rows choose it."""
    rows = [
        [cell["model"], f"{cell['labels']:,}", ", ".join(f"{each:+.2f}" for each in cell["thresholds"])]
        for cell in networks
        if cell.get("thresholds")
    ]
    return [Table("Thresholds of “no answer”, chosen by F1 of validation rows", ["model", "labels", "by seed"], rows)][
        : len(rows)
    ]


def _steps(cell: Mapping[str, Any], job: Config) -> str:
    taken = _range(cell["steps"])
    return taken if job.evaluate_every is None else f"{taken}; kept: {_range(cell['best_steps'])}"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
