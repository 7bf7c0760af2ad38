"""The numbers about data as tables, which MLflow shows beside one another for several runs.

    rows       one line for each split of the shards: how many rows, how long, how full, how varied
    tokens     the most frequent pieces of each split
    documents  one line for each split and source of the corpus
    sources    one line for each source as the recipe names it: its licence, what was read of it, what was kept
    rejects    one line for each source and reason, duplicates among them

Shares are in [0, 1], lengths in tokens (rows) or characters (documents), entropy in nats per token. Of very large data
`counted_share` was counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.stats.types import CorpusCounts, RowCounts


class Table(NamedTuple):
    """Names of columns, which hold no dots (MLflow's page takes them apart there), and rows of as many values."""

    columns: list[str]
    data: list[list[Any]]


def data_tables(
    splits: Mapping[str, RowCounts], corpus: CorpusCounts, ingested: Mapping[str, Any], folder: Path
) -> None:
    """Write the tables about shards and their corpus into `folder`. `ingested`: the summary of the corpus."""
    tables = {
        "rows": _rows(splits),
        "tokens": _tokens(splits),
        "documents": _documents(corpus),
        "sources": _sources(ingested),
        "rejects": _rejects(corpus),
    }
    write(tables, folder)


def write(tables: Mapping[str, Table], folder: Path) -> None:
    """A file for each, which becomes a table in MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table._asdict(), allow_nan=False) + "\n", encoding="ascii")


def _rows(splits: Mapping[str, RowCounts]) -> Table:
    columns = ["split", "rows", "tokens", "sequences", "mean_length", "median_length", "length", "padding_share"]
    columns += ["sequences_per_row", "unk_share", "vocabulary_coverage", "entropy", "counted_share"]
    data = [
        [
            name,
            split["rows"],
            split["tokens"],
            split["sequences"],
            split["row_lengths"]["mean"],
            split["row_lengths"]["median"],
            split["length"],
            split["padding_share"],
            split["sequences_per_row"],
            split["vocabulary"]["unk_share"],
            split["vocabulary"]["coverage"],
            split["vocabulary"]["entropy"],
            split["read"]["share"],
        ]
        for name, split in splits.items()
    ]
    return Table(columns, data)


def _tokens(splits: Mapping[str, RowCounts]) -> Table:
    data = [
        [name, rank, piece["piece"], piece["count"], piece["share"]]
        for name, split in splits.items()
        for rank, piece in enumerate(split["vocabulary"]["frequent"], 1)
    ]
    return Table(["split", "rank", "piece", "count", "share"], data)


def _documents(corpus: CorpusCounts) -> Table:
    columns = ["split", "source", "documents", "sentences", "characters", "mean_length", "median_length"]
    data = [
        [
            name,
            one["source"],
            one["documents"],
            one["sentences"],
            one["characters"],
            one["lengths"]["mean"],
            one["lengths"]["median"],
            split["read"]["share"],
        ]
        for name, split in corpus["splits"].items()
        for one in split["sources"]
    ]
    return Table([*columns, "counted_share"], data)


def _sources(ingested: Mapping[str, Any]) -> Table:
    columns = ["source", "licence", "files", "bytes", "rows", "kept"]
    data = [
        [*(source[column] for column in columns), source["rows"] - source["kept"]] for source in ingested["sources"]
    ]
    return Table([*columns, "rejected"], data)


def _rejects(corpus: CorpusCounts) -> Table:
    rejects = corpus["rejects"]
    data = [
        [source, reason, count, rejects["read"]["share"]]
        for source, reasons in rejects["sources"].items()
        for reason, count in reasons.items()
    ]
    return Table(["source", "reason", "rows", "counted_share"], data)
