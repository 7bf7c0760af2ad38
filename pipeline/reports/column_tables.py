"""What tables and images look like in numbers: for every column, for every split and class.

columns    kind, missing values, and of numbers mean, standard deviation and extremes; of categories how many, and the
           most frequent
splits     rows of each class
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.tables.values import pc
from pipeline.reports.tables import Table, write

MOST_LEVELS = 10  # categories that are named


def of_corpus(folder: Path) -> dict[str, Any]:
    """Numbers of all splits; of a table's columns those of the training rows."""
    splits = {}
    for split in SPLITS:
        corpus = ArrayCorpus(folder, split)
        labels: Counter[int] = Counter()
        for batch in corpus.batches():
            labels.update(
                dict(zip(*(array.tolist() for array in np.unique(batch.label, return_counts=True)), strict=True))
            )
        named = {corpus.classes[label] if label >= 0 else "none": count for label, count in sorted(labels.items())}
        splits[split] = {"rows": len(corpus), "classes": named}
    train = ArrayCorpus(folder, "train")
    stats: dict[str, Any] = {"kind": train.kind, "names": train.classes, "splits": splits}
    if train.schema is not None:
        batches = [batch.input for batch in train.batches() if isinstance(batch.input, pa.RecordBatch)]
        stats["columns"] = [
            _column(name, kind, [b[name] for b in batches]) for name, kind in train.schema.kinds.items()
        ]
    else:
        stats |= {"shape": list(train.shape or ()), "pixels": _pixels(batch.input for batch in train.batches())}
    return stats


def _column(name: str, kind: str, parts: list[pa.Array]) -> dict[str, Any]:
    column = pa.chunked_array(parts)
    stats: dict[str, Any] = {"name": name, "kind": kind, "missing": column.null_count}
    if len(column) == column.null_count:
        return stats
    if kind == "numeric":
        extremes = pc.min_max(column).as_py()
        return stats | {"mean": pc.mean(column).as_py(), "std": pc.stddev(column).as_py(), **extremes}
    if kind == "date":
        extremes = pc.min_max(column).as_py()
        return stats | {name: str(value) for name, value in extremes.items()}
    counts = sorted((-level["counts"], level["values"]) for level in pc.value_counts(column.drop_null()).to_pylist())
    return stats | {"levels": len(counts), "frequent": {level: -count for count, level in counts[:MOST_LEVELS]}}


def _pixels(batches: Iterable[Any]) -> dict[str, float]:
    """Mean and standard deviation of all values in 0 … 1."""
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        values = np.asarray(batch, np.float64) / 255
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / max(count, 1)
    return {"mean": mean, "std": max(squares / max(count, 1) - mean**2, 0.0) ** 0.5}


def data_tables(stats: dict[str, Any], dropped: dict[str, str], folder: Path) -> None:
    """Write them as tables for MLflow. `dropped`: columns that became no feature, and why."""
    rows = [
        [name, label, count] for name, split in stats["splits"].items() for label, count in split["classes"].items()
    ]
    tables = {"splits": Table(["split", "class", "rows"], rows)}
    if "columns" in stats:
        numbers, words = ["missing", "mean", "std", "levels"], ["name", "kind", "min", "max"]
        lines = [
            [
                *(str(column.get(name, "")) for name in words),
                *(column.get(name) for name in numbers),
                dropped.get(column["name"]),
            ]
            for column in stats["columns"]
        ]
        tables["columns"] = Table([*words, *numbers, "dropped"], lines)
    write(tables, folder)
