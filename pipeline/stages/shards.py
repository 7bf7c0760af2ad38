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
from training.data import LONGER, stream_of

ROWS_PER_SHARD = 1 << 17
SPLITS = ("train", "validation")


def config(recipe: Recipe) -> dict[str, Any]:
    """Corruption at load time is a matter of training: only corruption at writing time forks the shards."""
    masking, longer = recipe.corruption, recipe.train.longer
    written = masking.at == "shards"
    settings: dict[str, Any] = {
        "name": recipe.name,
        "seed": recipe.seed,
        "compose": recipe.compose.model_dump(mode="json"),
        "corruption": masking.model_dump(mode="json") if written else None,
    }
    if longer:
        masking = longer.corruption(masking)
        settings[LONGER] = {
            "length": longer.length,
            "corruption": masking.model_dump(mode="json") if written else None,
        }
    return settings


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    corpus, folder = inputs["corpus"].path, inputs["tokenizer"].path
    summary: dict[str, Any] = {"length": config["compose"]["length"]}
    for split in SPLITS:
        documents = Corpus(corpus, split)
        if len(documents) == 0:
            continue
        context.progress(f"{split}: tokenising {len(documents):,} documents")
        tokens = tokenise(documents, load(folder))
        summary[split] = _write(split, tokens, config, folder, out_dir, context)
        if split == "train" and LONGER in config:
            summary[LONGER] = _write(LONGER, tokens, _lengthened(config), folder, out_dir, context)
    for split in ("train", LONGER) if LONGER in config else ("train",):
        if not summary.get(split, {}).get("rows"):
            length = config[LONGER]["length"] if split == LONGER else config["compose"]["length"]
            raise UserError(
                f"compose: no rows came out of {len(Corpus(corpus, 'train'))} training documents; "
                f"lower {'train.longer' if split == LONGER else 'compose'}.length ({length}) "
                "or give longer documents to data.sources."
            )
    return summary


def _write(
    split: str, tokens: TokenCorpus, config: dict[str, Any], tokenizer: Path, out_dir: Path, context: Context
) -> dict[str, Any]:
    """The shards of one split; what there is to say of them."""
    settings, special = ComposeConfig.model_validate(config["compose"]), specials(tokenizer)
    writer = ShardWriter(out_dir / split, ROWS_PER_SHARD)
    written = lengths = 0
    for epoch in range(1 if split == "validation" else settings.epochs):
        for documents in tokens.ranges():
            rows = compose(tokens, settings, special, config["seed"], f"{config['name']} {split}", epoch, documents)
            if config["corruption"]:
                rows = _corrupted(rows, config, split, written, special)
            written += num_rows(rows)
            lengths += _tokens(rows)
            writer.write(rows)
            context.progress(f"{split}: {written:,} rows", documents.stop / len(tokens))
    return _summary(tokens, writer.close({"split": split}), lengths, settings.length)


def _lengthened(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the longer rows: the training documents once more."""
    longer = config[LONGER]
    composed = {**config["compose"], "length": longer["length"]}
    return {**config, "compose": composed, "corruption": longer["corruption"]}


def _corrupted(rows: Rows, config: dict[str, Any], split: str, first: int, special: Any) -> Rows:
    """The corruption that the loader would do in the first epoch: rows are keyed by their number in the shards."""
    draws = Draws(key(config["seed"], *stream_of(split, config["name"])), 0, np.arange(first, first + num_rows(rows)))
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
