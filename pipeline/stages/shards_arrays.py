"""Typed rows → shards ready to train on: a table's columns made numbers by a transform fitted on training rows only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.errors import UserError
from data_prep.shards.format import ShardWriter
from data_prep.tables.transform import Transform, TransformConfig
from pipeline.array_recipe import ArrayRecipe
from pipeline.artifact import TABLES, Artifact
from pipeline.reports import column_tables
from pipeline.stage import Context, Stage
from pipeline.stages.pretrain import TRANSFORM

BYTES_PER_SHARD = 1 << 28
STATS = "stats.json"
NORMAL = 0  # the label of normal rows, where a table says which are


def config(recipe: ArrayRecipe) -> dict[str, Any]:
    chosen = {"normal": recipe.data.normal} if recipe.data.normal and recipe.data.train_on == "normal" else {}
    return {
        "transform": recipe.data.transform.model_dump(mode="json") if recipe.data.kind == "table" else None,
        "train_on": recipe.data.train_on,
        **chosen,
    }


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    folder, corpus = inputs["corpus"].path, inputs["corpus"].summary
    summary: dict[str, Any] = {"kind": corpus["kind"], "sources": corpus["sources"], "parts": {}}
    normal = _normal(config, corpus) if config["train_on"] == "normal" else None
    transform = None
    if corpus["kind"] == "table":
        context.progress("fitting the transform")
        train = ArrayCorpus(folder, "train")
        transform = Transform.fit(
            lambda: (_table(batch) for batch in _chosen(train, normal)),
            TransformConfig.model_validate(config["transform"]),
            train.schema,
        )
        transform.save(out_dir / TRANSFORM)
        summary |= {"features": len(transform.features), "dropped": transform.dropped}
    for split in SPLITS:
        rows = ArrayCorpus(folder, split)
        if not len(rows):
            continue
        made = _write(rows, split, normal if split == "train" else None, transform, out_dir, context)
        if made["rows"]:
            summary[split] = made
            summary["parts"][split] = {split: made}
    if "train" not in summary:
        raise UserError("data: no row is left to train on; add sources or lower the shares held out.")
    context.progress("counting")
    stats = column_tables.of_corpus(folder)
    (out_dir / STATS).write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    column_tables.data_tables(stats, summary.get("dropped", {}), out_dir / TABLES)
    return summary


def _normal(config: dict[str, Any], corpus: dict[str, Any]) -> list[int]:
    """Numbers of the classes that are normal. UserError where labels do not tell."""
    if corpus["kind"] == "table":
        if not corpus["schema"]["normal"]:
            raise UserError("data.train_on: normal needs labels that are normal; set data.table.target and .normal.")
        return [NORMAL]
    unknown = [name for name in config["normal"] if name not in corpus["classes"]]
    if unknown:
        known = ", ".join(corpus["classes"]) or "none; set data.images.labels"
        raise UserError(f"data.normal: no picture has the label {unknown[0]!r}; there are {known}.")
    return [corpus["classes"].index(name) for name in config["normal"]]


def _chosen(corpus: ArrayCorpus, normal: Sequence[int] | None) -> Iterator[ArrayBatch]:
    """All rows, or those of classes that are normal."""
    for batch in corpus.batches():
        if normal is None:
            yield batch
            continue
        keep = np.flatnonzero(np.isin(batch.label, normal))
        kept = batch.input.take(pa.array(keep)) if isinstance(batch.input, pa.RecordBatch) else batch.input[keep]
        yield ArrayBatch(kept, batch.label[keep], batch.row[keep])


def _table(batch: ArrayBatch) -> pa.RecordBatch:
    assert isinstance(batch.input, pa.RecordBatch)
    return batch.input


def _write(
    corpus: ArrayCorpus,
    split: str,
    normal: Sequence[int] | None,
    transform: Transform | None,
    out_dir: Path,
    context: Context,
) -> dict[str, Any]:
    """The shards of one split; rows keep the order of the corpus."""
    shape = (len(transform.features),) if transform else corpus.shape or ()
    row_bytes = int(np.prod(shape)) * (4 if transform else 1) + 16
    writer = ShardWriter(out_dir / split, max(1, BYTES_PER_SHARD // row_bytes))
    written = 0
    for batch in _chosen(corpus, normal):
        values = transform.apply(_table(batch)) if transform else np.asarray(batch.input)
        writer.write({"input": values, "label": batch.label, "row": batch.row})
        written += len(values)
        context.progress(f"{split}: {written:,} rows", written / len(corpus))
    writer.close({"split": split})
    return {"rows": written, "shape": list(shape)}


ARRAY_SHARDS = Stage("array-shards", 1, run)
