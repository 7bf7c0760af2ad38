"""What shards look like: numbers, tables, figures and a page, from what their kind of data counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.kinds import Inputs, Kind, Progress
from pipeline.artifact import TABLES
from pipeline.reports import column_tables, data, tables

STATS = "stats.json"
STATS_OF_CORPUS = "figures/corpus.json"  # an account: a corpus that differs in its rejects alone is no other shards
COUNTS = ("rows", "kept", "rejected", "duplicates", "near_duplicates", "filtered")


def describe(
    kind: Kind,
    settings: dict[str, Any],
    made_of: Inputs,
    out_dir: Path,
    parts: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write what the data look like into `out_dir`; the numbers that are worth a metric."""
    stats = kind.stats(settings, made_of, out_dir, parts)
    ingested = made_of.summary
    told: dict[str, Any] = {"corpus": {name: ingested[name] for name in COUNTS if name in ingested}}
    if "rows" not in stats:
        _write(stats, out_dir / STATS)
        column_tables.data_tables(stats, stats.get("dropped", {}), out_dir / TABLES)
        return told
    rows, corpus = stats["rows"], stats["corpus"]
    _write(rows, out_dir / STATS)
    progress("drawing figures", None)
    drawn = data.data_figures(rows["splits"], corpus, (out_dir / STATS_OF_CORPUS).parent)
    _write(corpus, out_dir / STATS_OF_CORPUS)
    tables.data_tables(rows["splits"], corpus, ingested, out_dir / TABLES)
    page = data.data_page(settings["name"], rows["splits"], corpus, ingested, drawn)
    (out_dir / "stats.md").write_text(page, encoding="utf-8")
    return told | {
        name: {
            "padding_share": split["padding_share"],
            "sequences_per_row": split["sequences_per_row"],
            "unk_share": split["vocabulary"]["unk_share"],
            "vocabulary_coverage": split["vocabulary"]["coverage"],
            "entropy": split["vocabulary"]["entropy"],
        }
        for name, split in rows["splits"].items()
    }


def _write(stats: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
