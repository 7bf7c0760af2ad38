"""A downstream job's report: `report.json` for programs, `report.md` for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.labelled.files import Labelled
from pipeline.downstream.fine_tune.metrics import metric_name
from pipeline.recipe.jobs.fine_tune import DownstreamConfig


def build(job: DownstreamConfig, data: Labelled, cells: list[dict[str, Any]], precision: str) -> dict[str, Any]:
    """Everything the job found out, as plain values."""
    for cell in cells:
        cell["mean"] = statistics.fmean(cell["scores"])
        cell["std"] = statistics.stdev(cell["scores"]) if len(cell["scores"]) > 1 else 0.0
    paired = [
        _paired(cells, "pretrained", other, labels)
        for labels in job.labels
        for other in dict.fromkeys(cell["model"] for cell in cells)
        if "pretrained" in job.models and other != "pretrained"
    ]
    return {
        "title": job.name,
        "task": job.task,
        "metric": metric_name(data),
        "split": "test",
        "seeds": job.seeds,
        "steps": job.steps,
        "precision": precision,
        "data": data.description,
        "licence": data.licence,
        "protocol": data.protocol,
        "rows": {name: len(examples) for name, examples in data.splits.items()},
        "test_rows": min(job.test_rows, len(data.splits["test"])),
        "models": list(dict.fromkeys(cell["model"] for cell in cells)),
        "cells": cells,
        "paired": paired,
    }


def _paired(cells: Sequence[dict[str, Any]], model: str, other: str, labels: int) -> dict[str, Any]:
    """Differences seed by seed. `clear`: the mean difference exceeds the spread of the differences over the seeds."""
    scores = {c["model"]: c["scores"] for c in cells if c["labels"] == labels}
    differences = [a - b for a, b in zip(scores[model], scores[other], strict=True)]
    mean = statistics.fmean(differences)
    spread = statistics.stdev(differences) if len(differences) > 1 else None
    return {
        "labels": labels,
        "model": model,
        "other": other,
        "mean": mean,
        "std": spread,
        "wins": sum(d > 0 for d in differences),
        "seeds": len(differences),
        "clear": spread is not None and abs(mean) > spread,
    }


def write(report: dict[str, Any], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    (folder / "report.md").write_text(markdown(report))


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """The numbers that are logged: every model's mean at every number of labels, and the paired differences."""
    values: dict[str, Any] = {"metric": report["metric"], "licences": [report["licence"]]}
    for cell in report["cells"]:
        values[f"{_slug(cell['model'])}_{cell['labels']}"] = cell["mean"]
    for pair in report["paired"]:
        values[f"{_slug(pair['model'])}_minus_{_slug(pair['other'])}_{pair['labels']}"] = pair["mean"]
    return values


def verdict(report: dict[str, Any]) -> str:
    """One sentence per number of labels about pretraining against random weights."""
    pairs = [pair for pair in report["paired"] if pair["other"] == "scratch"]
    sentences = []
    for pair in pairs:
        better = "better" if pair["mean"] >= 0 else "worse"
        spread = "" if pair["std"] is None else f" ± {pair['std']:.3f}"
        clear = "more" if pair["clear"] else "not more"
        sentences.append(
            f"With {pair['labels']:,} labels pretraining is {abs(pair['mean']):.3f}{spread} {better} than random "
            f"weights ({pair['wins']} of {pair['seeds']} seeds; {clear} than the seeds' spread)."
        )
    return " ".join(sentences)


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    labels = sorted({cell["labels"] for cell in report["cells"]})
    lines = [
        f"# {report['title']}",
        "",
        f"{report['data']} {report['protocol']}",
        "",
        f"{report['metric']} on {report['test_rows']:,} rows of the test split; mean ± standard deviation over "
        f"{report['seeds']} seeds (examples, weights and order); {report['steps']} steps for every network; learning "
        "rates chosen on validation rows.",
        "",
        "| model | " + " | ".join(f"{n:,} labels" for n in labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for model in report["models"]:
        cells = {cell["labels"]: cell for cell in report["cells"] if cell["model"] == model}
        entries = [
            f"{cells[n]['mean']:.3f} ± {cells[n]['std']:.3f}" + (f" (lr {cells[n]['lr']:g})" if cells[n]["lr"] else "")
            for n in labels
        ]
        lines.append(f"| {model} | " + " | ".join(entries) + " |")
    lines += ["", verdict(report), ""]
    return "\n".join(lines)


def _slug(model: str) -> str:
    return Path(model).name.replace(" ", "-")
