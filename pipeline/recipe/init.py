"""The networks of an experiment that pretrains none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_prep.errors import UserError
from data_prep.kinds import kind_read_by
from data_prep.labelled.examples import TEXT
from data_prep.settings import Settings
from data_prep.sources.catalogue.networks import NETWORKS
from training.models.text.architectures import is_of_transformers

PRETRAINING_ALONE = "downstream=[]"


class InitConfig(Settings):
    """Where a network comes from: one of three ways to say it. Before anything runs, its folder takes their place."""

    folder: str | None = None
    """A folder of `transformers` with a network and its tokenizer, or one of an encoder of frames."""
    model: str | None = Field(
        default=None,
        examples=list(NETWORKS),
        description="A registered model (NAME is its champion, NAME@VERSION any version), an artifact's key, a run, or "
        f"a package with a network in it: {', '.join(NETWORKS)}.",
    )
    recipe: str | None = None
    """A packaged recipe or the path of one, whose network it is: it is trained first, if it was not."""
    scale: str | None = None
    """Scale of that recipe; null: its own default."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Changes to that recipe, such as {train.steps: 300}."""
    kind: str | None = None
    """Kind of data that it reads; null: what its folder or its recipe says."""
    title: str = ""
    """What tables over several networks call it; empty: pretrained, or its name in `networks`."""
    pretrained_on: str = ""
    """What it was pretrained on, such as its languages, for the same tables."""

    @model_validator(mode="after")
    def _is_one(self) -> InitConfig:
        given = [name for name in ("folder", "model", "recipe") if getattr(self, name) is not None]
        if len(given) != 1:
            shown = " and ".join(given) or "none"
            raise ValueError(f"takes one of folder, model and recipe; found {shown}; set the others to null")
        for name in ("scale", "settings"):
            if getattr(self, name) and self.recipe is None:
                raise ValueError(f"{name!r} belongs to 'recipe'")
        return self

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was added later and is not set."""
        return {name: value for name, value in dump(self).items() if name != "kind" or value is not None}

    @property
    def reads(self) -> str | None:
        """The kind of data that it reads; None until its folder is known, if nothing else says it."""
        if self.folder is not None:
            return kind_read_by(Path(self.folder).expanduser()) or TEXT
        return TEXT if self.model in NETWORKS else self.kind


def fill(data: Mapping[str, Any], load: Callable[[str, str | None, Sequence[str], str], Any]) -> None:
    """Say of what kind of data networks are that are those of recipes. data: an experiment as it was written.

    load: another recipe by its name, scale and settings, for the section that names it. UserError where a section says
    another kind, or its network is none that `training.models.described` knows.
    """
    networks = data.get("networks")
    others = {f"networks.{name}": of for name, of in networks.items()} if isinstance(networks, dict) else {}
    for section, of in {"init": data.get("init"), **others}.items():
        if not isinstance(of, dict) or not isinstance(of.get("recipe"), str):
            continue
        settings = of.get("settings")
        own = pretraining_settings(settings if isinstance(settings, dict) else {})
        recipe, said = load(of["recipe"], of.get("scale"), own, section), of.get("kind")
        kind, architecture = recipe.kind, recipe.network.architecture
        if not is_of_transformers(architecture):
            raise UserError(
                f"{section}.recipe: the network of {of['recipe']}, {architecture!r}, is none of transformers, and jobs "
                f"without a pretraining open no other; name another recipe, or write the jobs into a copy of it."
            )
        if said not in (None, kind):
            raise UserError(f"{section}.kind: {said}, and the network of {of['recipe']} reads {kind}; leave it out.")
        of["kind"] = kind


def pretraining_settings(changes: Mapping[str, Any]) -> list[str]:
    """Settings, as they are laid over the recipe of a network that is changed so, without its jobs."""
    return [PRETRAINING_ALONE, *(f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in changes.items())]
