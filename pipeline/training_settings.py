"""The settings that training depends on, as plain values: for its key, and for jobs that train networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_prep.settings import identity
from data_prep.shards.streams import stream_of
from data_prep.sources.files import below
from training.config import OrderConfig
from training.hardware import resolve_precision
from training.job import CorpusShards
from training.objectives import module_of

if TYPE_CHECKING:
    from pipeline.artifact import Artifact

SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")


def training_settings(recipe: Any) -> dict[str, Any]:
    """All settings that change the result of training, without default sections; the precision is resolved."""
    sections = {name: identity(getattr(recipe, name)) for name in SECTIONS}
    sections["train"]["precision"] = resolve_precision(recipe.train.precision, recipe.placement.device)
    sections["networks"] = {name: identity(network) for name, network in recipe.networks.items()}
    settings = {name: section for name, section in sections.items() if section}
    versions = {"objective": module_of(recipe.objective.name).VERSION, "corruption": recipe.corruption.VERSION}
    return {
        "name": recipe.name,
        "kind": recipe.data.kind,
        **settings,
        **{f"{section}_version": version for section, version in versions.items() if version > 1},
        "seed": recipe.seed,
    }


def mixture(kind: str, config: dict[str, Any], shards: Artifact) -> list[CorpusShards]:
    """The parts of the corpus as shards, with their shares of the samples."""
    parts = shards.summary["parts"].get(kind, {})
    rows = {name.partition("-")[2]: part["rows"] for name, part in parts.items()}
    shares = OrderConfig.model_validate(config.get("order", {})).shares(rows)
    return [
        CorpusShards(
            name=stream_of(name, config["name"])[1],
            folder=below(shards.uri, name),
            weight=share,
            source=name.partition("-")[2] or config["name"],
        )
        for name, share in zip(parts, shares.values(), strict=True)
    ]
