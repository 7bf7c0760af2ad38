"""Jobs on tables and pictures: each task is a module with a function `run`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.images import units
from data_prep.shards.format import Shards
from data_prep.shards.rows import Rows
from data_prep.sources.config import digest, snapshot
from pipeline.artifact import Artifact
from pipeline.recipe.jobs.autoencoders import AnomalyConfig, CompressionConfig
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage
from pipeline.stages import pretrain

BATCH = 1024
JOBS = {
    "codes": "pipeline.downstream.autoencoders.codes",
    "restoration": "pipeline.downstream.autoencoders.restoration",
    "generation": "pipeline.downstream.autoencoders.generation",
    "discrete": "pipeline.downstream.autoencoders.discrete",
    "curves": "pipeline.downstream.autoencoders.curves",
    "anomaly": "pipeline.downstream.anomaly.job",
    "compression": "pipeline.downstream.compression.job",
}
TRAINING = ("kind", "augment", "corruption", "network", "objective", "train", "seed")


def config(recipe: Recipe, job: Any, downloads: Path) -> dict[str, Any]:
    """The job, what networks that it trains are trained with, and of pictures that it reads what it has to know."""
    training = pretrain.config(recipe)
    read: dict[str, Any] = {}
    values = job.model_dump(mode="json")
    if isinstance(job, AnomalyConfig):
        values = _used(values) | {"normal": job.normal or getattr(recipe.data, "normal", [])}
        if getattr(recipe.data, "images", None) and recipe.data.images.standardise:
            read["standardise"] = True
    if isinstance(job, CompressionConfig):
        read["snapshot"] = digest(snapshot(job.pictures, downloads, units.accepts(recipe.data.images)), downloads)
    return {
        "job": values,
        **read,
        **{name: training[name] for name in TRAINING if name in training},
        "transform": recipe.data.transform.model_dump(mode="json") if recipe.data.kind == "table" else None,
    }


def _used(job: dict[str, Any]) -> dict[str, Any]:
    """The settings of an anomaly job, without later ones that it leaves unused: such jobs keep their keys."""
    values = {name: value for name, value in job.items() if name != "known_kinds" or value}
    values["detectors"] = [
        {name: value for name, value in one.items() if name != "trim" or value} for one in job["detectors"]
    ]
    return values


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    """Carry out the job of the config's task, which draws into `figures/` and returns its report:

    title, about      what was done
    heads, rows       a table of texts
    tables            more of them, if any: [heads, rows] by title
    figures           file in `figures/` by what it shows
    verdict           one sentence
    summary           numbers to log
    """
    report = import_module(JOBS[config["job"]["task"]]).run(config, inputs, out_dir, context)
    (out_dir / "report.json").write_text(json.dumps(report, indent=1))
    (out_dir / "report.md").write_text(page(report))
    return report["summary"]


def page(report: dict[str, Any]) -> str:
    """A job's report for people."""
    lines = [f"# {report['title']}", "", report["about"], "", *_table(report["heads"], report["rows"])]
    lines += [report["verdict"], ""]
    for title, (heads, rows) in report.get("tables", {}).items():
        lines += [f"### {title}", "", *_table(heads, rows)]
    for name, file in report["figures"].items():
        lines += [f"![{name}](figures/{file})", ""]
    return "\n".join(lines)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [*(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)), ""]


def rows_of(shards: Artifact, split: str) -> Rows:
    """All rows of a split: `input`, `label` and `row`."""
    table = Shards(shards.path / split)
    return table.read(np.arange(table.rows))


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """[0, count) in runs of `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def flat(rows: np.ndarray) -> np.ndarray:
    """[R, D] of [R, …]."""
    return rows.reshape(len(rows), -1)


def plane(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes rows [R, D] to [R, 2]: the two directions in which `rows` vary most (of one value: it, and 0)."""
    from sklearn.decomposition import PCA

    if rows.shape[1] == 1:
        return lambda values: np.concatenate([values, np.zeros_like(values)], 1)
    return PCA(2).fit(rows).transform


def are_classes(*labels: np.ndarray) -> bool:
    """Whether all rows have a label, of a few classes."""
    return all((one >= 0).all() for one in labels) and len(np.unique(labels[0])) > 1


def mean_and_spread(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Mean ± standard deviation, of a sample."""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


ARRAY_JOB = Stage("array-job", 1, run)
