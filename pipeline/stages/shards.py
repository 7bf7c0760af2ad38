"""Corpus and preprocessor → shards ready for training, with statistics, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.compute.workers import Workers
from data_prep.kinds import Inputs, Use, kind_of
from data_prep.shards.reader import Shards
from data_prep.stats import uniform
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.reports.describe import describe
from pipeline.stage import Context, Stage


def config(recipe: Recipe) -> dict[str, Any]:
    return {"kind": recipe.data.kind, "settings": kind_of(recipe.data.kind).shards_settings(recipe)}


def files(recipe: Recipe) -> Mapping[str, Path]:
    """The user's files that the stage reads, by the digests that stand for them in its config."""
    return kind_of(recipe.data.kind).files(recipe)


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    kind, corpus = kind_of(config["kind"]), inputs["corpus"]
    preprocessor = inputs["preprocessor"].path if "preprocessor" in inputs else None
    made_of = Inputs(corpus.path, corpus.summary, preprocessor)
    workers = Workers.of(context.placement.get("data_workers"), context.placement.get("ray_address"), context.work)
    use = Use(context.work, context.downloads, context.progress, workers, context.files)
    summary = kind.write_shards(config["settings"], made_of, out_dir, use)
    summary["sources"] = corpus.summary["sources"]
    if kind.uniform is not None:
        summary["uniform"] = uniform.of_rows(Shards(out_dir / next(iter(summary["parts"]["train"]))))
    context.progress("counting")
    stats = describe(kind, config["settings"], made_of, out_dir, summary["parts"], context.progress)
    return summary | {"stats": stats}


SHARDS = Stage("shards", 3, run)
