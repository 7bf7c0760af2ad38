"""Sources → a cleaned corpus, split by document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.corpus.documents import SplitConfig
from data_prep.ingest import ingest as build_corpus
from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.text.clean import CleanConfig
from data_prep.workers import Workers
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage


def config(recipe: Recipe, downloads: Path) -> dict[str, Any]:
    """The stage's config: what is read is named by the digest of a snapshot, so changed files are a new corpus."""
    data = recipe.data
    return {
        **data.model_dump(mode="json", exclude={"kind"}),
        "snapshot": digest(snapshot(data.sources, downloads), downloads),
        "seed": recipe.seed,
    }


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    sources = [SourceConfig.model_validate(source) for source in config["sources"]]
    summary = build_corpus(
        sources,
        CleanConfig.model_validate(config["clean"]),
        SplitConfig.model_validate(config["split"]),
        config["seed"],
        out_dir,
        context.downloads,
        context.progress,
        Workers.of(context.placement.get("data_workers"), context.placement.get("ray_address")),
    )
    found = digest(snapshot(sources, context.downloads), context.downloads)
    if found != config["snapshot"]:
        from data_prep.errors import UserError

        raise UserError("data.sources: files changed while they were read; run again when nothing writes to them.")
    return summary


INGEST = Stage("ingest", 3, run)
