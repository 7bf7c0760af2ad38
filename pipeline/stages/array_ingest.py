"""Sources of tables or pictures → a corpus of typed rows, split by what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.arrays import accepts, ingest_arrays
from data_prep.corpus.documents import SplitConfig
from data_prep.errors import UserError
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.tables.schema import TableConfig
from data_prep.workers import Workers
from pipeline.array_recipe import ArrayRecipe
from pipeline.artifact import Artifact
from pipeline.stage import Context, Stage

# Settings that came later, and what leaves them unused: corpora that do not use them keep their keys.
LATER = {"patch": None, "standardise": False}


def config(recipe: ArrayRecipe, downloads: Path) -> dict[str, Any]:
    """The stage's config: what is read is named by the digest of a snapshot, so changed files are a new corpus."""
    data = recipe.data
    meaning = data.table if data.kind == "table" else data.images
    values = meaning.model_dump(mode="json")
    values = {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}
    return {
        "kind": data.kind,
        "sources": [source.model_dump(mode="json") for source in data.sources],
        "meaning": values,
        "max_rejects": data.max_rejects,
        "split": data.split.model_dump(mode="json"),
        "snapshot": digest(snapshot(data.sources, downloads, accepts(meaning)), downloads),
        "seed": recipe.seed,
    }


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    sources = [SourceConfig.model_validate(source) for source in config["sources"]]
    kind = TableConfig if config["kind"] == "table" else ImagesConfig
    meaning = kind.model_validate(config["meaning"])
    summary = ingest_arrays(
        sources,
        meaning,
        config["max_rejects"],
        SplitConfig.model_validate(config["split"]),
        config["seed"],
        out_dir,
        context.downloads,
        context.progress,
        Workers.of(context.placement.get("data_workers"), context.placement.get("ray_address")),
    )
    if digest(snapshot(sources, context.downloads, accepts(meaning)), context.downloads) != config["snapshot"]:
        raise UserError("data.sources: files changed while they were read; run again when nothing writes to them.")
    return summary


ARRAY_INGEST = Stage("array-ingest", 1, run)
