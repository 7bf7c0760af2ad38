"""Corpus and tokenizer → shards ready to train on: tokenised, composed, and corrupted too if so asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.compose import ComposeConfig, compose
from data_prep.corpus import Corpus
from data_prep.corrupt import MaskingConfig, corrupt
from data_prep.errors import UserError
from data_prep.keyed import Draws, key
from data_prep.rows import Ragged, Rows, num_rows
from data_prep.shards import ShardWriter
from data_prep.tokenizers import load, specials
from data_prep.tokens import TokenCorpus, tokenise
from pipeline.artifact import Artifact
from pipeline.recipe import Recipe
from pipeline.stage import Context, Stage
from training.data import CORRUPT, CORRUPT_HELD_OUT

ROWS_PER_SHARD = 1 << 17
SPLITS = ("train", "validation")


def config(recipe: Recipe) -> dict[str, Any]:
    """Corruption at load time is a matter of training: only corruption at writing time forks the shards."""
    masking = recipe.corruption
    return {
        "name": recipe.name,
        "seed": recipe.seed,
        "compose": recipe.compose.model_dump(mode="json"),
        "corruption": masking.model_dump(mode="json") if masking.at == "shards" else None,
    }


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    settings = ComposeConfig.model_validate(config["compose"])
    folder = inputs["tokenizer"].path
    special = specials(folder)
    summary: dict[str, Any] = {"length": settings.length}
    for split in SPLITS:
        corpus = Corpus(inputs["corpus"].path, split)
        if len(corpus) == 0:
            continue
        context.progress(f"{split}: tokenising {len(corpus):,} documents")
        tokens = tokenise(corpus, load(folder))
        writer = ShardWriter(out_dir / split, ROWS_PER_SHARD)
        written = lengths = 0
        for epoch in range(settings.epochs if split == "train" else 1):
            for documents in tokens.ranges():
                rows = compose(tokens, settings, special, config["seed"], f"{config['name']} {split}", epoch, documents)
                if config["corruption"]:
                    rows = _corrupted(rows, config, split, written, special)
                written += num_rows(rows)
                lengths += _tokens(rows)
                writer.write(rows)
                context.progress(f"{split}: {written:,} rows", documents.stop / len(tokens))
        index = writer.close({"split": split})
        summary[split] = _summary(tokens, index, lengths, settings.length)
    if not summary.get("train", {}).get("rows"):
        raise UserError(
            f"compose: no rows came out of {len(Corpus(inputs['corpus'].path, 'train'))} training documents; "
            f"lower compose.length ({settings.length}) or give longer documents to data.sources."
        )
    return summary


def _corrupted(rows: Rows, config: dict[str, Any], split: str, first: int, special: Any) -> Rows:
    """The corruption that the loader would do in the first epoch: rows are keyed by their number in the shards."""
    purpose = CORRUPT if split == "train" else CORRUPT_HELD_OUT
    draws = Draws(key(config["seed"], purpose, config["name"]), 0, np.arange(first, first + num_rows(rows)))
    return corrupt(rows, MaskingConfig.model_validate(config["corruption"]), special, draws)


def _tokens(rows: Rows) -> int:
    tokens = rows["tokens"]
    assert isinstance(tokens, Ragged)
    return len(tokens.values)


def _summary(tokens: TokenCorpus, index: dict[str, Any], written: int, length: int) -> dict[str, Any]:
    rows = index["rows"]
    return {
        "documents": len(tokens),
        "sentences": len(tokens.sentence_offsets) - 1,
        "corpus_tokens": len(tokens.tokens),
        "rows": rows,
        "tokens": written,
        "mean_length": round(written / max(rows, 1), 2),
        "padding_share": round(1 - written / max(rows * length, 1), 4),
    }


SHARDS = Stage("shards", 1, run)
