"""The same findings from a recipe and from the artifacts that it left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import dag
from pipeline.recipe.load import load, recipes
from pipeline.recipe.recipe import Recipe
from pipeline.reports.findings import of_artifacts, of_recipe

SUMMARIES: dict[str, dict[str, Any]] = {
    "ingest": {"splits": {"train": {"documents": 9, "sentences": 9, "characters": 9}, "validation": {"documents": 1}}},
    "tokenizer": {"kind": "wordpiece", "vocabulary": 4096},
    "shards": {
        "length": 40,
        "train": {
            "rows": 50,
            "corpus_tokens": 2000,
            "left_out": 500,
            "labels": [50, 0],
            "mean_length": 10.0,
            "padding_share": 0.75,
            "characters": 9000,
            "unknown_characters": 4000,
        },
    },
    "pretrain": {},
}  # fmt: skip


def made(recipe: Recipe, downloads: Path) -> dict[str, Any]:
    """Artifacts of a recipe, with summaries in which much is odd."""
    return {
        node.name: SimpleNamespace(config=node.config, summary=SUMMARIES[node.name])
        for node in dag.nodes(recipe, downloads)
        if node.name in SUMMARIES
    }


def test_a_report_says_what_was_said_before(tmp_path: Path) -> None:
    recipe = load("quickstart", None, ["corruption.max_predictions=12", "train.steps=100000"])
    artifacts = made(recipe, tmp_path)
    found = of_recipe(recipe, artifacts)
    assert found == of_artifacts(artifacts)
    words = (
        "validation is 1",
        "test is empty",
        "a step takes",
        "passes over",
        "12 of 40 tokens",
        "unknown",
        "leaves out",
    )
    for word in (*words, "100.0% of the pairs of sop are in order", "is padding", "tokenizer.vocabulary 4,096"):
        assert sum(word in finding.text for finding in found) == 1, word
    assert of_recipe(recipe, {}) == [finding for finding in found if "12 of 40 tokens" in finding.text]


@pytest.mark.parametrize("name", [listing.name for listing in recipes()])
def test_packaged_recipes_are_in_order(name: str) -> None:
    scales = next(listing.scales for listing in recipes() if listing.name == name)
    for scale in scales or [None]:
        assert of_recipe(load(name, scale, []), {}) == []
