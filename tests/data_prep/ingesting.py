"""Ingest as tests ask for it: sources and settings of one kind, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep import ingest as module
from data_prep.compute.workers import HERE, Workers
from data_prep.corpus.documents import SplitConfig
from data_prep.images.kind import ImagesData
from data_prep.images.pixels import ImagesConfig
from data_prep.kinds import Progress, kind_of
from data_prep.sources.config import SourceConfig
from data_prep.tables.kind import TableData
from data_prep.tables.schema import TableConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.kind import TextData

ArrayConfig = TableConfig | ImagesConfig


def ingest(
    sources: Sequence[SourceConfig],
    clean: CleanConfig,
    split: SplitConfig,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Progress = lambda *_, **__: None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """A corpus of text."""
    data = TextData(kind="text", sources=list(sources), clean=clean, split=split)
    return module.ingest(kind_of("text"), data, seed, out_dir, downloads, progress, workers)


def ingest_arrays(
    sources: Sequence[SourceConfig],
    config: ArrayConfig,
    max_rejects: int | float,
    split: SplitConfig,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Progress = lambda *_, **__: None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """A corpus of a table or of images."""
    data: TableData | ImagesData
    if isinstance(config, TableConfig):
        data = TableData(kind="table", sources=list(sources), table=config, split=split, max_rejects=max_rejects)
    else:
        data = ImagesData(kind="images", sources=list(sources), images=config, split=split, max_rejects=max_rejects)
    return module.ingest(kind_of(data.kind), data, seed, out_dir, downloads, progress, workers)
