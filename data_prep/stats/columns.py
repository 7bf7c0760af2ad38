"""What tables and images look like in numbers: for every column, for every split and class.

columns    kind, missing values; of numbers mean, standard deviation and extremes; of categories how many
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

MOST_LEVELS = 10  # categories that are named


def of_corpus(folder: Path) -> dict[str, Any]:
    """Numbers of all splits; of a table's columns those of the training rows."""
    train, found = ArrayCorpus(folder, "train"), of_splits(folder)
    if train.schema is not None:
        batches = [batch.input for batch in train.batches() if isinstance(batch.input, pa.RecordBatch)]
        found["columns"] = [
            _column(name, kind, [b[name] for b in batches]) for name, kind in train.schema.kinds.items()
        ]
    else:
        found |= {"shape": list(train.shape or ()), "pixels": _pixels(batch.input for batch in train.batches())}
    return found


def of_splits(folder: Path) -> dict[str, Any]:
    """Rows of all splits and classes, of whatever kind."""
    splits = {}
    for split in SPLITS:
        corpus = ArrayCorpus(folder, split)
        labels: Counter[int] = Counter()
        for batch in corpus.batches():
            labels.update(dict(zip(*(one.tolist() for one in np.unique(batch.label, return_counts=True)), strict=True)))
        named = {corpus.classes[label] if label >= 0 else "none": count for label, count in sorted(labels.items())}
        splits[split] = {"rows": len(corpus), "classes": named}
    train = ArrayCorpus(folder, "train")
    return {"kind": train.kind, "names": train.classes, "splits": splits}


def _column(name: str, kind: str, parts: list[pa.Array]) -> dict[str, Any]:
    column = pa.chunked_array(parts)
    found: dict[str, Any] = {"name": name, "kind": kind, "missing": column.null_count}
    if len(column) == column.null_count:
        return found
    if kind == "numeric":
        extremes = pc.min_max(column).as_py()
        mean, std = pc.mean(column).as_py(), pc.stddev(column).as_py()
        return found | {"mean": mean, "std": std, "min": extremes["min"], "max": extremes["max"]}
    if kind == "date":
        extremes = pc.min_max(column).as_py()
        return found | {"min": str(extremes["min"]), "max": str(extremes["max"])}
    counts = sorted((-one["counts"], one["values"]) for one in pc.value_counts(column.drop_null()).to_pylist())
    return found | {"levels": len(counts), "frequent": {level: -count for count, level in counts[:MOST_LEVELS]}}


def _pixels(batches: Iterable[Any]) -> dict[str, float]:
    """Mean and standard deviation of all values in 0 … 1."""
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        values = np.asarray(batch, np.float64) / 255
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / max(count, 1)
    return {"mean": mean, "std": max(squares / max(count, 1) - mean**2, 0.0) ** 0.5}
