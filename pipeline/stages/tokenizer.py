"""A corpus's training documents → a tokenizer in the format that `transformers` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.corpus.documents import Corpus
from data_prep.tokens.tokenizers import TokenizerConfig, train
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage


def config(recipe: Recipe) -> dict[str, Any]:
    return recipe.tokenizer.model_dump(mode="json")


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    corpus = Corpus(inputs["corpus"].path, "train")
    context.progress(f"learning from {len(corpus):,} documents")
    return train(TokenizerConfig.model_validate(config), corpus.sentences(), out_dir)


TOKENIZER = Stage("tokenizer", 1, run)
