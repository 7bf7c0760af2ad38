"""Shards → a pretrained network, its loss curves and a model card."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from data_prep.settings import identity
from data_prep.shards.streams import LONGER, stream_of
from data_prep.sources.files import below
from pipeline.artifact import MODEL, Artifact
from pipeline.fingerprint import digest
from pipeline.recipe.recipe import Recipe
from pipeline.reports import data
from pipeline.reports.model_card import model_card
from pipeline.stage import Context, Stage
from training.config import OrderConfig, PlacementConfig
from training.hardware import resolve_precision
from training.job import METRICS, Job, ShardsOf

SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")
CHECKPOINTS = "checkpoints"


def config(recipe: Recipe) -> dict[str, Any]:
    """Everything that changes what is learned; the precision made definite first, so that it is in the key."""
    precision = resolve_precision(recipe.train.precision, recipe.placement.device)
    settings = {name: identity(getattr(recipe, name)) for name in SECTIONS if getattr(recipe, name) is not None}
    settings["train"]["precision"] = precision
    return {"name": recipe.name, "kind": recipe.data.kind, **settings, "seed": recipe.seed}


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.launch import run as launch

    shards = inputs["shards"]
    placement = PlacementConfig.model_validate(dict(context.placement))
    job = Job.model_validate(
        {
            **{name: config[name] for name in ("kind", *SECTIONS, "seed")},
            "corpora": _mixture("train", config, shards),
            "longer": _mixture(LONGER, config, shards),
            "held_out": below(shards.uri, "validation") if "validation" in shards.summary else None,
            "cache": str(context.downloads / "shards"),
            "preprocessor": str(inputs["preprocessor"].path) if "preprocessor" in inputs else "",
            "placement": placement,
            "work": str(context.work),
            "start": _checkpoints_of(config["train"]["start"]["experiment"], context)
            if "start" in config["train"]
            else None,
            "out": str(out_dir / MODEL),
            "recipe": digest([config, {name: a.output_digest for name, a in inputs.items()}]),
        }
    )
    context.progress("starting workers" if placement.workers > 1 else "loading")
    stopping = "stopping at the end of this step, with a checkpoint"
    summary = launch(job, lambda: context.progress(stopping, warning=f"{stopping}; once more ends the run at once"))
    records = last_of_each_step(read_records(context.work / METRICS))
    with (out_dir / METRICS).open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    context.progress("drawing figures")
    data.training_curves(records, out_dir / "figures")
    (out_dir / MODEL / "README.md").write_text(model_card(config, inputs, summary))
    return summary


def _checkpoints_of(experiment: str, context: Context) -> str:
    """Work folders lie beside each other, under their keys."""
    return str(context.work.parent / experiment / CHECKPOINTS)


def _mixture(kind: str, config: dict[str, Any], shards: Artifact) -> list[ShardsOf]:
    """The parts of the corpus as shards, with their shares of the samples."""
    parts = shards.summary["parts"].get(kind, {})
    rows = {name.partition("-")[2]: made["rows"] for name, made in parts.items()}
    shares = OrderConfig.model_validate(config["order"]).shares(rows)
    return [
        ShardsOf(
            name=stream_of(name, config["name"])[1],
            folder=below(shards.uri, name),
            weight=share,
            source=name.partition("-")[2] or config["name"],
        )
        for name, share in zip(parts, shares.values(), strict=True)
    ]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics log. A line that is damaged, or cut short by a crash, is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


def last_of_each_step(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per step: a run that went on from a checkpoint wrote some of them twice."""
    merged: dict[int, dict[str, Any]] = {}
    for record in records:
        merged[record["step"]] = {**merged.get(record["step"], {}), **record}
    return [merged[step] for step in sorted(merged)]


PRETRAIN = Stage("pretrain", 2, run)
