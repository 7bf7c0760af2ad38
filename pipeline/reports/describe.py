"""Statistics of shards: metrics, tables, figures and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.kinds import Inputs, Kind, Progress
from pipeline.artifact import TABLES
from pipeline.reports import blocks

STATS, PAGE, FIGURES = "stats.json", "stats.md", "figures"
STATS_OF_CORPUS = f"{FIGURES}/corpus.json"  # a report: shards do not depend on the rejects of their corpus
COUNTS = ("rows", "kept", "rejected", "duplicates", "near_duplicates", "filtered")


def describe(
    kind: Kind,
    settings: dict[str, Any],
    made_of: Inputs,
    out_dir: Path,
    parts: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write the statistics of the data into `out_dir`; returns the numbers that become metrics."""
    counts = kind.stats(settings, made_of, out_dir, parts)
    ingested = made_of.summary
    statistics = kind.statistics(counts, ingested)
    _write({name: value for name, value in counts.items() if name != "corpus"}, out_dir / STATS)
    if "corpus" in counts:
        _write(counts["corpus"], out_dir / STATS_OF_CORPUS)
    progress("drawing figures", None)
    blocks.write_tables(statistics.blocks, out_dir / TABLES)
    blocks.draw(statistics.blocks, out_dir / FIGURES)
    page = blocks.page(settings.get("name", ingested.get("kind", "")), statistics.blocks)
    (out_dir / PAGE).write_text(page, encoding="utf-8")
    return {"corpus": {name: ingested[name] for name in COUNTS if name in ingested}, **statistics.numbers}


def _write(stats: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
