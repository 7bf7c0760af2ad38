"""Statistics of tables and images: of every column, and of every split and class.

columns    kind, missing values; mean, standard deviation and extremes of numbers; number of categories
splits     rows of each class
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.stats.blocks import Bars, Block, Note, Statistics, Table

MOST_LEVELS, MOST_SHOWN = 10, 4  # categories that are counted individually, and listed in a table


def of_corpus(folder: Path) -> dict[str, Any]:
    """Statistics of all splits; those of a table's columns are of the training rows only."""
    train, summary = ArrayCorpus(folder, "train"), of_splits(folder)
    if train.schema is not None:
        batches = [batch.input for batch in train.batches() if isinstance(batch.input, pa.RecordBatch)]
        summary["columns"] = [
            _column(name, kind, [b[name] for b in batches]) for name, kind in train.schema.kinds.items()
        ]
    else:
        summary |= {"shape": list(train.shape or ()), "pixels": _pixels(batch.input for batch in train.batches())}
    return summary


def of_splits(folder: Path) -> dict[str, Any]:
    """Row counts of all splits and classes, for any kind of data."""
    splits = {}
    for split in SPLITS:
        corpus = ArrayCorpus(folder, split)
        labels: Counter[int] = Counter()
        for batch in corpus.batches():
            labels.update(
                dict(zip(*(values.tolist() for values in np.unique(batch.label, return_counts=True)), strict=True))
            )
        named = {corpus.classes[label] if label >= 0 else "none": count for label, count in sorted(labels.items())}
        splits[split] = {"rows": len(corpus), "classes": named}
    train = ArrayCorpus(folder, "train")
    return {"kind": train.kind, "names": train.classes, "splits": splits}


def statistics(counts: Mapping[str, Any]) -> Statistics:
    """Row counts of all splits and classes; statistics of a table's columns, or of pixels."""
    splits = counts["splits"]
    classes = list(dict.fromkeys(name for split in splits.values() for name in split["classes"]))
    by_class = {name: {split: counted["classes"].get(name, 0) for split, counted in splits.items()} for name in classes}
    rows = [[name, label, count] for name, split in splits.items() for label, count in split["classes"].items()]
    blocks: list[Block] = [
        Table("splits", "Rows of each split and class", ["split", "class", "rows"], rows),
        Bars("splits", "Rows of each split", "rows", by_class),
    ]
    if "pixels" in counts:
        pixels, shape = counts["pixels"], " × ".join(map(str, counts["shape"]))
        described = f"mean {pixels['mean']:.3f}, standard deviation {pixels['std']:.3f} (of 0 to 1)"
        blocks.append(Note(f"{shape}, {described}"))
    if "columns" in counts:
        blocks.append(_columns(counts["columns"], counts.get("dropped", {})))
    return Statistics({}, blocks)


def _columns(columns: Iterable[Mapping[str, Any]], dropped: Mapping[str, str]) -> Table:
    """One line per column. dropped: columns without features, and why."""
    words, numbers = ["name", "kind", "min", "max"], ["missing", "mean", "std", "levels"]
    rows = []
    for column in columns:
        frequent = [f"{level} {count:,}" for level, count in list(column.get("frequent", {}).items())[:MOST_SHOWN]]
        extremes = [_shown(column.get("min")), _shown(column.get("max"))]
        values = [column["name"], column["kind"], *extremes, *(column.get(name) for name in numbers)]
        rows.append([*values, ", ".join(frequent), dropped.get(column["name"], "")])
    return Table("columns", "Columns of training rows", [*words, *numbers, "frequent", "dropped"], rows)


def _shown(value: Any) -> str:
    """A number or a date as short text, so that a column of the table has one type."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _column(name: str, kind: str, parts: list[pa.Array]) -> dict[str, Any]:
    column = pa.chunked_array(parts)
    summary: dict[str, Any] = {"name": name, "kind": kind, "missing": column.null_count}
    if len(column) == column.null_count:
        return summary
    if kind == "numeric":
        extremes = pc.min_max(column).as_py()
        mean, std = pc.mean(column).as_py(), pc.stddev(column).as_py()
        return summary | {"mean": mean, "std": std, "min": extremes["min"], "max": extremes["max"]}
    if kind == "date":
        extremes = pc.min_max(column).as_py()
        return summary | {"min": str(extremes["min"]), "max": str(extremes["max"])}
    counts = sorted((-entry["counts"], entry["values"]) for entry in pc.value_counts(column.drop_null()).to_pylist())
    return summary | {"levels": len(counts), "frequent": {level: -count for count, level in counts[:MOST_LEVELS]}}


def _pixels(batches: Iterable[Any]) -> dict[str, float]:
    """Mean and standard deviation of all values in 0 … 1."""
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        values = np.asarray(batch, np.float64) / 255
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / max(count, 1)
    return {"mean": mean, "std": max(squares / max(count, 1) - mean**2, 0.0) ** 0.5}
