"""The networks that a run starts from, or evaluates: found, fetched, or trained first, and their folders named.

train.start       pretraining goes on from it
init, networks    jobs evaluate them; nothing is pretrained
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flows.checkpoint import model_folder
from pipeline import dag, start_from
from pipeline.artifact import MODEL
from pipeline.home import Home
from pipeline.recipe.init import pretraining_settings
from pipeline.recipe.load import load_pretraining, read
from pipeline.recipe.recipe import Evaluation, Experiment, Recipe, model_of
from pipeline.runs import Run

SECTIONS = {Recipe: "train.start", Evaluation: "init"}
OTHERS = {Recipe: ("experiment", "step", "recipe", "scale"), Evaluation: ("model", "recipe", "scale", "settings")}
"""What else says where a network is, by the kind of experiment."""
UNSET = {"settings": "{}"}
"""How they are left out, where that is not null."""


class Named(NamedTuple):
    """A section of a recipe that names a network: a registered model, an artifact, a run or a package; or a recipe."""

    section: str
    model: str | None
    recipe: str | None
    scale: str | None
    settings: Mapping[str, Any]


def asked_settings(name_or_path: str, asked: str | None) -> list[str]:
    """Settings of a recipe that take the network that --from names; none where it names a step, or nothing.

    UserError if there is no such network.
    """
    if asked is None or start_from.FROM.fullmatch(asked):
        return []
    kind = model_of(read(name_or_path)[0])
    return _settings(kind, SECTIONS[kind], model_folder(asked))


def first(named: Named, settings: Sequence[str]) -> Recipe | None:
    """The recipe whose network it is, placed alike and without jobs; None if it is that of no recipe."""
    if named.recipe is None:
        return None
    placed = [setting for setting in settings if setting.startswith("placement.")]
    own = pretraining_settings(named.settings)
    return load_pretraining(named.recipe, named.scale, [*own, *placed], named.section)


def named_networks(recipe: Experiment) -> list[Named]:
    """The networks that a recipe names and whose folders are not known yet."""
    if isinstance(recipe, Evaluation):
        sections = {"init": recipe.init, **{f"networks.{name}": of for name, of in recipe.networks.items()}}
        return [
            Named(section, of.model, of.recipe, of.scale, of.settings)
            for section, of in sections.items()
            if of.folder is None
        ]
    start = recipe.train.start if isinstance(recipe, Recipe) else None
    return [] if start is None or start.recipe is None else [Named("train.start", None, start.recipe, start.scale, {})]


def stored_settings(recipe: Experiment, settings: Sequence[str], home: Home) -> list[str]:
    """Settings that take the networks that the recipe names, as far as they are there. UserError where none can be."""
    networks = [(named, _stored(named, settings, home)) for named in named_networks(recipe)]
    return [
        setting
        for named, folder in networks
        if folder is not None
        for setting in _settings(type(recipe), named.section, folder)
    ]


def to_train(recipe: Experiment, settings: Sequence[str], home: Home) -> list[Recipe]:
    """The recipes whose networks it names and that have to be run first, in their order. UserError as above."""
    named = [(network, first(network, settings)) for network in named_networks(recipe)]
    return [earlier for network, earlier in named if earlier is not None and _stored(network, settings, home) is None]


def made_settings(
    recipe: Experiment, settings: Sequence[str], home: Home, make: Callable[[Recipe, str], Run]
) -> list[str]:
    """As `stored_settings`; where the network of another recipe is not stored, `make` runs that recipe."""
    made: list[str] = []
    for named in named_networks(recipe):
        folder = _stored(named, settings, home)
        if folder is None and (earlier := first(named, settings)) is not None:
            folder = Path(make(earlier, str(named.recipe)).stages["pretrain"].path) / MODEL
        if folder is not None:
            made += _settings(type(recipe), named.section, folder)
    return made


def _stored(named: Named, settings: Sequence[str], home: Home) -> Path | None:
    """The folder of a network; None where its recipe has to be run first."""
    if named.model is not None:
        return model_folder(named.model)
    earlier = first(named, settings)
    if earlier is None:
        return None
    planned = {item.node.name: item for item in dag.plan(dag.nodes(earlier, home.downloads), home.store())}
    artifact = planned["pretrain"].artifact
    return None if artifact is None else home.store().check_whole(artifact).path / MODEL


def _settings(kind: type[Experiment], section: str, folder: Path) -> list[str]:
    others = [f"{section}.{name}={UNSET.get(name, 'null')}" for name in OTHERS[kind]]
    return [*others, f"{section}.folder={json.dumps(str(folder), ensure_ascii=False)}"]
