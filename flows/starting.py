"""The network that a run starts from: a folder named by --from, or that of another recipe, which is trained first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.checkpoint import model_folder
from pipeline import dag, start_from
from pipeline.artifact import MODEL
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from pipeline.runs import Run

PRETRAINING_ALONE = "downstream=[]"


def asked_settings(asked: str | None) -> list[str]:
    """Settings that start from the network that --from names; none where it names a step, or nothing.

    UserError where there is no such network.
    """
    if asked is None or start_from.FROM.fullmatch(asked):
        return []
    return _settings(model_folder(asked))


def first(recipe: Recipe, settings: Sequence[str]) -> Recipe | None:
    """The recipe whose network it starts from, placed alike and without jobs; None if it names none."""
    start = recipe.train.start
    if start is None or start.recipe is None:
        return None
    placed = [setting for setting in settings if setting.startswith("placement.")]
    return load(start.recipe, start.scale, [PRETRAINING_ALONE, *placed])


def stored_settings(recipe: Recipe, settings: Sequence[str], home: Home) -> list[str]:
    """Settings that start from the network of the recipe that it names, if that is stored; else none."""
    earlier = first(recipe, settings)
    if earlier is None:
        return []
    planned = {item.node.name: item for item in dag.plan(dag.nodes(earlier, home.downloads), home.store())}
    artifact = planned["pretrain"].artifact
    return [] if artifact is None else _settings(home.store().check_whole(artifact).path / MODEL)


def made_settings(recipe: Recipe, settings: Sequence[str], home: Home, make: Callable[[Recipe, str], Run]) -> list[str]:
    """As `stored_settings`; where that network is not stored, `make` runs its recipe, given it and its name."""
    earlier = first(recipe, settings)
    if earlier is None:
        return []
    if stored := stored_settings(recipe, settings, home):
        return stored
    made = make(earlier, str(recipe.train.start.recipe))  # type: ignore[union-attr]
    return _settings(Path(made.stages["pretrain"].path) / MODEL)


def _settings(folder: Path) -> list[str]:
    others = [f"train.start.{name}=null" for name in ("experiment", "step", "recipe", "scale")]
    return [*others, f"train.start.folder={json.dumps(str(folder), ensure_ascii=False)}"]
