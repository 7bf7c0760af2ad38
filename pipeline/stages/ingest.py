"""Sources → a corpus: examples are read, rejected or kept, and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.compute.workers import Workers
from data_prep.errors import UserError
from data_prep.ingest import ingest
from data_prep.kinds import DataConfig, kind_of
from data_prep.settings import identity
from data_prep.sources import named_splits
from data_prep.sources.config import digest, snapshot
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage


def config(recipe: Recipe, downloads: Path) -> dict[str, Any]:
    """The stage's config. It has a digest of the source files, so changed files give a new corpus."""
    version = kind_of(recipe.data.kind).version
    return {
        **({"version": version} if version > 1 else {}),
        "kind": recipe.data.kind,
        "data": identity(recipe.data, recipe.data.AFTER_INGEST),
        "snapshot": _digest(recipe.data, downloads),
        "seed": recipe.seed,
    }


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    kind = kind_of(config["kind"])
    data = kind.Data.model_validate({**config["data"], "kind": config["kind"]}, strict=False)
    workers = Workers.of(context.placement.get("data_workers"), context.placement.get("ray_address"), context.work)
    summary = ingest(kind, data, config["seed"], out_dir, context.downloads, context.progress, workers)
    if _digest(data, context.downloads) != config["snapshot"]:
        raise UserError("data.sources: files changed while they were read; run again when nothing writes to them.")
    return summary


def _digest(data: DataConfig, downloads: Path) -> str:
    accepts = kind_of(data.kind).accepts(data)
    listed = [(source, snapshot([source], accepts)) for source in data.sources]
    named_splits.check(listed)
    return digest([entry for _, entries in listed for entry in entries], downloads)


INGEST = Stage("ingest", 4, run)
