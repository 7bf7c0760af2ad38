"""Continuing from a checkpoint of another experiment: longer, annealed, or otherwise from some step.

    extend        the same recipe with more steps, from the last checkpoint of the longest run of it
    from STEP     the same recipe up to its `train` section, from that step
    from KEY@STEP any experiment, from that step

The checkpoint becomes part of the recipe (`train.start`), and so of the new experiment's key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.store.live import WORK
from pipeline.store.store import Store
from pipeline.training_settings import CHECKPOINTS

FROM = re.compile(r"(?:(?P<experiment>[\w-]+)@)?(?P<step>[0-9]{1,18})")


def extension_settings(recipe: Recipe, store: Store, downloads: Path) -> list[str]:
    """Settings that continue from the end of a shorter run of the recipe. UserError if there is none."""
    config, inputs = _pretraining(recipe, store, downloads)
    shorter = [
        artifact
        for artifact in _siblings(store, config, inputs, but={"steps", "start"})
        if artifact.config["train"]["steps"] < recipe.train.steps
    ]
    if not shorter:
        raise UserError(
            f"--extend: no finished run of {recipe.name!r} differs from this one by fewer train.steps alone; raise "
            "train.steps with --set, or name a checkpoint with --from KEY@STEP."
        )
    longest = max(shorter, key=lambda artifact: artifact.config["train"]["steps"])
    return _start_at(store, longest.key, longest.config["train"]["steps"])


def start_settings(recipe: Recipe, store: Store, downloads: Path, asked: str) -> list[str]:
    """Settings that continue from `STEP` or `KEY@STEP`. UserError if there is no such checkpoint."""
    match = FROM.fullmatch(asked)
    if match is None:
        raise UserError(f"--from: found {asked!r}; give a step, as 1000, or an artifact's key and a step, as KEY@1000.")
    step = int(match["step"])
    if match["experiment"]:
        return _start_at(store, _experiment(store, match["experiment"]), step)
    config, inputs = _pretraining(recipe, store, downloads)
    siblings = _siblings(store, config, inputs, but=set(config["train"]) | {"steps", "start", "longer", "decay_steps"})
    with_step = [artifact for artifact in siblings if step in steps_of(store, artifact.key)]
    if not with_step:
        available = sorted({step for artifact in siblings for step in steps_of(store, artifact.key)})
        raise UserError(
            f"--from: no finished run of {recipe.name!r} on this data has a checkpoint of step {step}; there are "
            f"{_listed(available)} (placement.checkpoint_every and keep_checkpoints say which are kept)."
        )
    newest = max(with_step, key=lambda artifact: artifact.manifest["attempt"])
    return _start_at(store, newest.key, step)


def steps_of(store: Store, key: str) -> list[int]:
    """Steps of an experiment's checkpoints on this machine."""
    from training.engines.checkpoint import committed

    return sorted({checkpoint.position.step for checkpoint in committed(store.work(key) / CHECKPOINTS)})


def _pretraining(recipe: Recipe, store: Store, downloads: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The config of the recipe's pretraining, and the digests of its inputs."""
    planned = {item.node.name: item for item in dag.plan(dag.nodes(recipe, downloads), store)}
    node = planned["pretrain"].node
    artifacts = {role: planned[name].artifact for role, name in node.inputs.items()}
    missing = [role for role, artifact in artifacts.items() if artifact is None]
    if missing:
        raise UserError(
            f"{recipe.name!r} has no stored {' and '.join(missing)}, so nothing was trained on them from which to go "
            "on; run the recipe first."
        )
    return node.config, {role: artifact.output_digest for role, artifact in artifacts.items() if artifact}


def _siblings(store: Store, config: dict[str, Any], inputs: Mapping[str, str], but: set[str]) -> list[Artifact]:
    """Pretrained artifacts of the same inputs and config, except for the settings of training in `but`."""

    def same(other: dict[str, Any]) -> bool:
        return {**other, "train": None} == {**config, "train": None} and (
            {name: value for name, value in other["train"].items() if name not in but}
            == {name: value for name, value in config["train"].items() if name not in but}
        )

    return [
        artifact
        for artifact in store.list()
        if artifact.stage == "pretrain"
        and {role: entry["digest"] for role, entry in artifact.manifest["inputs"].items()} == inputs
        and same(artifact.config)
    ]


def _experiment(store: Store, prefix: str) -> str:
    """The one experiment with checkpoints here whose key starts with `prefix`."""
    experiments = [path.parent.name for path in (store.home / WORK).glob(f"{prefix}*/{CHECKPOINTS}")]
    if len(experiments) != 1:
        raise UserError(
            f"--from: {prefix!r} is the beginning of {len(experiments)} experiments with checkpoints in "
            f"{store.home / WORK}"
            + (f": {', '.join(sorted(experiments))}." if experiments else "; `sesame plan` shows the keys of a recipe.")
        )
    return experiments[0]


def _start_at(store: Store, key: str, step: int) -> list[str]:
    available = steps_of(store, key)
    if step not in available:
        raise UserError(
            f"{key} has no checkpoint of step {step} here; there are {_listed(available)} "
            "(placement.checkpoint_every and keep_checkpoints say which are kept)."
        )
    return [f"train.start.experiment={key}", f"train.start.step={step}"]


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
