"""Findings about an experiment (`data_prep.findings`), from a recipe and its artifacts, or from artifacts alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.corruptions import build, config_of
from data_prep.corruptions.masking import budget
from data_prep.findings import Finding, Known
from data_prep.kinds import kind_of
from data_prep.rng import Draws, key
from data_prep.shards.remote import open_shards
from data_prep.shards.rows import num_rows, ragged
from data_prep.sources.files import below
from data_prep.tokens.tokenizers import specials
from pipeline.artifact import Artifact
from training.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe


LOOKED_AT = 256  # rows


def of_recipe(
    recipe: Recipe, artifacts: Mapping[str, Artifact], downloads: Path, characters: Mapping[str, int] | None = None
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
        hidden=_hidden(recipe.corruption, artifacts, kind.fits, downloads),
        **_summaries(artifacts, kind.fits),
    )
    return list(kind.findings(known))


def of_artifacts(artifacts: Mapping[str, Artifact], downloads: Path) -> list[Finding]:
    """The same for a finished experiment. artifacts: at least those of ingest, shards and pretrain."""
    configs: dict[str, dict[str, Any]] = {name: artifact.config for name, artifact in artifacts.items()}
    kind, pretrained = kind_of(configs["ingest"]["kind"]), configs["pretrain"]
    compose = configs["shards"]["settings"].get("compose", {})
    corruption = config_of(pretrained["corruption"]) if "corruption" in pretrained else None
    known = Known(
        data=kind.Data.model_validate({**configs["ingest"]["data"], "kind": configs["ingest"]["kind"]}, strict=False),
        train=TrainConfig.model_validate(pretrained["train"]),
        corruption=corruption,
        composed=compose.get("kind"),
        length=artifacts["shards"].summary.get("length"),
        hidden=_hidden(corruption, artifacts, kind.fits, downloads),
        **_summaries(artifacts, kind.fits),
    )
    return list(kind.findings(known))


def _hidden(
    corruption: Any, artifacts: Mapping[str, Artifact], fits: str | None, downloads: Path
) -> tuple[float, float] | None:
    """`Known.hidden`, by masking whole words or phrases of some rows; None where no words are hidden in place."""
    if corruption is None or corruption.targets != "sparse" or "shards" not in artifacts:
        return None
    if getattr(corruption, "unit", "token") == "token":
        return None
    if fits is None or fits not in artifacts:
        return None
    shards = artifacts["shards"]
    stored = open_shards(below(shards.uri, next(iter(shards.summary["parts"]["train"]))), downloads / "shards")
    rows = stored.read(np.arange(min(LOOKED_AT, stored.rows)))
    if "seen" not in rows:
        draws = Draws(key(0, "findings"), 0, np.arange(num_rows(rows)))
        rows = build(corruption, specials(artifacts[fits].path))(rows, draws)
    tokens, hidden = (ragged(rows, name) for name in ("seen", "target_ids"))
    return len(hidden.values) / len(tokens.values), float(budget(corruption, tokens.lengths).sum()) / len(tokens.values)


def _summaries(artifacts: Mapping[str, Artifact], fits: str | None) -> dict[str, Any]:
    nodes = {"corpus": "ingest", "fitted": fits, "shards": "shards"}
    return {what: artifacts[name].summary for what, name in nodes.items() if name is not None and name in artifacts}
