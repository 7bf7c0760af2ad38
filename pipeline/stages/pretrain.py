"""Shards → a pretrained network, its loss curves and a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.shards.streams import LONGER
from data_prep.sources.files import below
from pipeline.artifact import MODEL, Artifact
from pipeline.fingerprint import digest
from pipeline.recipe.recipe import Recipe
from pipeline.records import last_of_each_step, read_records
from pipeline.reports import data, expert_use
from pipeline.reports.model_card import model_card
from pipeline.stage import Context, Stage
from pipeline.training_settings import (
    SECTIONS,
    held_out_sources,
    mixture,
    starting,
    training_settings,
)
from training.config import PlacementConfig
from training.job import METRICS, Job


def config(recipe: Recipe) -> dict[str, Any]:
    """All settings that change the result of training."""
    return training_settings(recipe)


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.launch import run as launch

    shards = inputs["shards"]
    placement = PlacementConfig.model_validate(dict(context.placement))
    job = Job.model_validate(
        {
            **{name: config[name] for name in ("kind", *SECTIONS, "networks", "seed") if name in config},
            "corpora": mixture("train", config, shards),
            "longer": mixture(LONGER, config, shards),
            "held_out": below(shards.uri, "validation") if "validation" in shards.summary else None,
            "held_out_sources": held_out_sources(config, shards),
            "cache": str(context.downloads / "shards"),
            "preprocessor": str(inputs["preprocessor"].path) if "preprocessor" in inputs else "",
            "placement": placement,
            "work": str(context.work),
            **starting(config["train"], context),
            "out": str(out_dir / MODEL),
            "recipe": digest([config, {name: a.output_digest for name, a in inputs.items()}]),
        }
    )
    context.progress("starting workers" if placement.workers > 1 else "loading")
    stopping = "stopping at the end of this step, with a checkpoint"
    summary = launch(job, lambda: context.progress(stopping, warning=f"{stopping}; once more ends the run at once"))
    for remark in summary.get("started", ()):
        context.progress("trained", warning=f"of the network that it started from: {remark}")
    records = last_of_each_step(read_records(context.work / METRICS))
    with (out_dir / METRICS).open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    context.progress("drawing figures")
    data.training_curves(records, out_dir / "figures")
    expert_use.draw(records, out_dir / "figures")
    folder = out_dir / MODEL
    (folder / "README.md").write_text(model_card(config, inputs, summary, folder))
    return summary


PRETRAIN = Stage("pretrain", 2, run)
