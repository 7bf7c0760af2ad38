"""The networks of an experiment that pretrains none."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from data_prep.settings import Settings
from data_prep.sources.catalogue.networks import NETWORKS


class InitConfig(Settings):
    """Where a network comes from: one of three ways to say it. Before anything runs, its folder takes their place."""

    folder: str | None = None
    """A folder of `transformers` with a network and its tokenizer."""
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
