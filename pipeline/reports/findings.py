"""Findings about an experiment (`data_prep.findings`), from a recipe and its artifacts, or from artifacts alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data_prep.corruptions import config_of
from data_prep.findings import Finding, Known
from data_prep.kinds import kind_of
from pipeline.artifact import Artifact
from training.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe


def of_recipe(
    recipe: Recipe, artifacts: Mapping[str, Artifact], characters: Mapping[str, int] | None = None
) -> list[Finding]:
    """What is known before training.

    artifacts: those that are finished, by the name of their node. characters: of a sample of the sources, if those are
    not read yet.
    """
    kind, compose = kind_of(recipe.data.kind), recipe.compose
    known = Known(
        data=recipe.data,
        train=recipe.train,
        corruption=recipe.corruption,
        composed=compose.kind if compose else None,
        length=compose.length if compose else None,
        tokenizer=recipe.tokenizer,
        characters=characters,
        **_summaries(artifacts, kind.fits),
    )
    return list(kind.findings(known))


def of_artifacts(artifacts: Mapping[str, Artifact]) -> list[Finding]:
    """The same for a finished experiment. artifacts: at least those of ingest, shards and pretrain."""
    configs: dict[str, dict[str, Any]] = {name: artifact.config for name, artifact in artifacts.items()}
    kind, pretrained = kind_of(configs["ingest"]["kind"]), configs["pretrain"]
    compose = configs["shards"]["settings"].get("compose", {})
    known = Known(
        data=kind.Data.model_validate({**configs["ingest"]["data"], "kind": configs["ingest"]["kind"]}, strict=False),
        train=TrainConfig.model_validate(pretrained["train"]),
        corruption=config_of(pretrained["corruption"]) if "corruption" in pretrained else None,
        composed=compose.get("kind"),
        length=artifacts["shards"].summary.get("length"),
        **_summaries(artifacts, kind.fits),
    )
    return list(kind.findings(known))


def _summaries(artifacts: Mapping[str, Artifact], fits: str | None) -> dict[str, Any]:
    nodes = {"corpus": "ingest", "fitted": fits, "shards": "shards"}
    return {what: artifacts[name].summary for what, name in nodes.items() if name is not None and name in artifacts}
