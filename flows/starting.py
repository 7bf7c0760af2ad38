"""The network that a run starts from, or evaluates: it is found, fetched, or trained first, and its folder named.

train.start    pretraining goes on from it
init           jobs evaluate it; nothing is pretrained
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.checkpoint import model_folder
from pipeline import dag, start_from
from pipeline.artifact import MODEL
from pipeline.home import Home
from pipeline.recipe.load import load_pretraining, read
from pipeline.recipe.recipe import Evaluation, Experiment, Recipe, model_of
from pipeline.runs import Run

PRETRAINING_ALONE = "downstream=[]"
SECTIONS = {Recipe: "train.start", Evaluation: "init"}
OTHERS = {Recipe: ("experiment", "step", "recipe", "scale"), Evaluation: ("model", "recipe", "scale")}
"""What else says where a network is, by the kind of experiment."""


def asked_settings(name_or_path: str, asked: str | None) -> list[str]:
    """Settings of a recipe that take the network that --from names; none where it names a step, or nothing.

    UserError if there is no such network.
    """
    if asked is None or start_from.FROM.fullmatch(asked):
        return []
    return _settings(model_of(read(name_or_path)[0]), model_folder(asked))


def first(recipe: Experiment, settings: Sequence[str]) -> Recipe | None:
    """The recipe whose network it takes, placed alike and without jobs; None if it names none."""
    name, scale = _named(recipe)
    if name is None:
        return None
    placed = [setting for setting in settings if setting.startswith("placement.")]
    return load_pretraining(name, scale, [PRETRAINING_ALONE, *placed], SECTIONS[type(recipe)])


def _named(recipe: Experiment) -> tuple[str | None, str | None]:
    """The recipe, by name or path, and its scale."""
    if isinstance(recipe, Evaluation):
        return recipe.init.recipe, recipe.init.scale
    start = recipe.train.start if isinstance(recipe, Recipe) else None
    return (start.recipe, start.scale) if start else (None, None)


def stored_settings(recipe: Experiment, settings: Sequence[str], home: Home) -> list[str]:
    """Settings that take the network that the recipe names, if it is there; else none. UserError where none can be."""
    if isinstance(recipe, Evaluation) and recipe.init.model is not None:
        return _settings(Evaluation, model_folder(recipe.init.model))
    earlier = first(recipe, settings)
    if earlier is None:
        return []
    planned = {item.node.name: item for item in dag.plan(dag.nodes(earlier, home.downloads), home.store())}
    artifact = planned["pretrain"].artifact
    return [] if artifact is None else _settings(type(recipe), home.store().check_whole(artifact).path / MODEL)


def made_settings(
    recipe: Experiment, settings: Sequence[str], home: Home, make: Callable[[Recipe, str], Run]
) -> list[str]:
    """As `stored_settings`; where the network of another recipe is not stored, `make` runs that recipe."""
    if stored := stored_settings(recipe, settings, home):
        return stored
    earlier = first(recipe, settings)
    if earlier is None:
        return []
    return _settings(type(recipe), Path(make(earlier, str(_named(recipe)[0])).stages["pretrain"].path) / MODEL)


def _settings(kind: type[Experiment], folder: Path) -> list[str]:
    others = [f"{SECTIONS[kind]}.{name}=null" for name in OTHERS[kind]]
    return [*others, f"{SECTIONS[kind]}.folder={json.dumps(str(folder), ensure_ascii=False)}"]
