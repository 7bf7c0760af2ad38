"""Training rows of a corpus → a preprocessor that turns examples into network inputs: tokenizer or transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.kinds import kind_of
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage


def config(recipe: Recipe) -> dict[str, Any]:
    return {"kind": recipe.data.kind, "settings": kind_of(recipe.data.kind).fit_settings(recipe)}


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    return kind_of(config["kind"]).fit(config["settings"], inputs["corpus"].path, out_dir, context.progress)


FIT = Stage("fit", 3, run)
