"""Findings about an experiment (`data_prep.findings`), from a recipe and its artifacts, or only from artifacts."""

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
from data_prep.shards.rows import Rows, num_rows, ragged
from data_prep.sources.files import below
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.segment import Units, unspaced
from data_prep.tokens.tokenizers import load, specials
from pipeline.artifact import Artifact
from training.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe


LOOKED_AT = 256  # rows
UNITS = {"unit": "phrase", "word_start": "word"}  # by the column that says where they are


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
        **_looked_at(recipe.corruption, artifacts, kind.fits, downloads),
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
        **_looked_at(corruption, artifacts, kind.fits, downloads),
        **_summaries(artifacts, kind.fits),
    )
    return list(kind.findings(known))


def _looked_at(corruption: Any, artifacts: Mapping[str, Artifact], fits: str | None, downloads: Path) -> dict[str, Any]:
    """`hidden`, `unit` and `units` of `Known`, of some training rows; none where no words or phrases are hidden."""
    column = next((name for name in UNITS if corruption and name in corruption.needs.columns), None)
    if corruption is None or column is None or fits is None or fits not in artifacts or "shards" not in artifacts:
        return {}
    built, shards = build(corruption, specials(artifacts[fits].path)), artifacts["shards"]
    stored = open_shards(below(shards.uri, next(iter(shards.summary["parts"]["train"]))), downloads / "shards")
    rows = stored.read(np.arange(min(LOOKED_AT, stored.rows)))
    clean = built.restore(rows) if "seen" in rows else rows
    known: dict[str, Any] = {"unit": UNITS[column]}
    if column in clean:
        known["units"] = _units(clean, column, artifacts[fits].path)
    if corruption.targets == "sparse" and getattr(corruption, "unit", "token") != "token":
        if "seen" not in rows:
            rows = built(rows, Draws(key(0, "findings"), 0, np.arange(num_rows(rows))))
        tokens, hidden = (ragged(rows, name) for name in ("seen", "target_ids"))
        allowed = float(budget(corruption, tokens.lengths).sum()) / len(tokens.values)
        known["hidden"] = len(hidden.values) / len(tokens.values), allowed
    return known


def _units(rows: Rows, column: str, tokenizer: Path) -> Units | None:
    """What units are in scripts without blanks. column: 1 where words begin, or the number of each token's phrase."""
    tokens, values = ragged(rows, "input"), ragged(rows, column).values.astype(np.int64)
    begins = values != 0 if column == "word_start" else np.diff(values, prepend=-1) != 0
    begins[tokens.offsets[:-1][tokens.lengths > 0]] = True
    special = specials(tokenizer)
    texts = Pieces(load(tokenizer), special).texts(tokens.values.tolist())
    is_special = special.is_special[tokens.values]
    return unspaced(["" if is_one else text for text, is_one in zip(texts, is_special, strict=True)], begins)


def _summaries(artifacts: Mapping[str, Artifact], fits: str | None) -> dict[str, Any]:
    nodes = {"corpus": "ingest", "fitted": fits, "shards": "shards"}
    return {what: artifacts[name].summary for what, name in nodes.items() if name is not None and name in artifacts}
