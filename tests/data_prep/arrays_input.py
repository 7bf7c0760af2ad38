"""What the tests of tables and images share: a corpus made of some files, and what is promised of every corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.compute.workers import HERE, Workers
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS, SplitConfig
from data_prep.corpus.draft import Progress
from data_prep.sources.config import SourceConfig
from tests.data_prep.ingesting import ArrayConfig, ingest_arrays


def ingested(
    *paths: Path,
    out: Path,
    config: ArrayConfig,
    split: float = 0.0,
    seed: int = 0,
    max_rejects: int | float = 1.0,
    workers: Workers = HERE,
    progress: Progress = lambda *_, **__: None,
    source_split: str | None = None,
) -> dict[str, Any]:
    """Ingest, and check what is promised of every corpus."""
    sources = [SourceConfig.model_validate({"path": str(path), "split": source_split}) for path in paths]
    shares, downloads = SplitConfig(validation=split, test=split), out.with_name(f"{out.name}-downloads")
    summary = ingest_arrays(sources, config, max_rejects, shares, seed, out, downloads, progress, workers)
    bad = rejected(out)
    rows = sum(len(ArrayCorpus(out, name)) for name in SPLITS)
    assert summary["rows"] == summary["kept"] + summary["rejected"]
    assert (rows, len(bad)) == (summary["kept"], summary["rejected"])
    assert sum(counts["rows"] for counts in summary["splits"].values()) == rows
    for reject in bad:
        assert reject["source"] and reject["position"] >= 1 and reject["reason"], reject
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    return summary


def rejected(folder: Path) -> list[dict[str, Any]]:
    return pa.ipc.open_file(str(folder / "rejects.arrow")).read_all().to_pylist()


def reasons(folder: Path) -> list[tuple[int, str]]:
    return [(reject["position"], reject["reason"]) for reject in rejected(folder)]


def rows_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """Rows of a table, as values."""
    return [row for batch in ArrayCorpus(folder, split).batches() for row in batch.input.to_pylist()]  # type: ignore[union-attr]


def columns_of(folder: Path, split: str = "train") -> dict[str, list[Any]]:
    rows = rows_of(folder, split)
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
