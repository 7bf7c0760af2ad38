"""The settings that training depends on, as plain values: for its key, and for jobs that train networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from data_prep.settings import identity
from data_prep.shards.streams import stream_of
from data_prep.sources.files import below
from training.config import OrderConfig
from training.hardware import resolve_precision
from training.job import CorpusShards
from training.models.text.start.settings import contents as start_contents
from training.objectives import module_of

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

CHECKPOINTS = "checkpoints"  # folder in the work folder of an experiment
SECTIONS = ("augment", "corruption", "order", "network", "objective", "train")


def training_settings(recipe: Any) -> dict[str, Any]:
    """All settings that change the result of training, without default sections; the precision is resolved."""
    sections = {name: identity(getattr(recipe, name)) for name in SECTIONS}
    if recipe.train.start is not None and recipe.train.start.folder is not None:
        sections["train"]["start"]["folder"] = start_contents(recipe.train.start.folder)
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


def start_files(recipe: Any) -> dict[str, Path]:
    """The folder that training starts from, by the digest of its contents, which stands for it in the config."""
    start = recipe.train.start
    if start is None or start.folder is None:
        return {}
    return {start_contents(start.folder): Path(start.folder).expanduser().absolute()}


def held_out_sources(config: dict[str, Any], shards: Artifact) -> list[tuple[str, int]]:
    """The sources of consecutive held-out documents, and how many of each; one, if it is no mixture."""
    held_out = shards.summary.get("validation", {})
    runs = held_out.get("sources") or [("", held_out.get("documents", 0))]
    return [(source or config["name"], count) for source, count in runs]


def starting(train: dict[str, Any], context: Context) -> dict[str, str]:
    """What `train.start` names, as a job has it. Work folders, which hold checkpoints, are siblings named by key.

    UserError where the folder of a network has changed since the recipe was read.
    """
    start, places = train.get("start", {}), dict[str, str]()
    if "recipe" in start:
        raise UserError(
            f"train.start.recipe: the network of {start['recipe']} is found by `sesame run`; name its folder instead."
        )
    if "experiment" in start:
        places["start"] = str(context.work.parent / start["experiment"] / CHECKPOINTS)
    if "folder" in start:
        folder = context.files[start["folder"]]
        if start_contents(folder) != start["folder"]:
            raise UserError(f"train.start.folder: {folder} has changed since this run began; run it again.")
        places["start_folder"] = str(folder)
    return places
