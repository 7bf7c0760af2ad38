"""What the tests of bad input share: sound documents, a corpus made of what lies there, and what is promised of it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.compute.workers import HERE, Workers
from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from tests.data_prep.ingesting import ingest

SOUND = ["A sound text that must stay, whatever lies beside it.", "Another sound one.", "And a third."]
UMLAUT = "Grüße und Küsse – „schön“ für 5 €."


def line(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False) + "\n"


TWO = line("One more.") + line("Two more.")


def run(
    *paths: Path,
    out: Path,
    downloads: Path | None = None,
    split: float = 0.0,
    workers: Workers = HERE,
    identity: str | None = None,
    **clean: Any,
) -> dict[str, Any]:
    sources = [SourceConfig(path=str(path), id_field=identity) for path in paths]
    config = CleanConfig(**{"max_rejects": 1.0, **clean})
    held_out = SplitConfig(validation=split, test=split)
    return ingest(
        sources, config, held_out, 0, out, downloads or out.with_name(f"{out.name}-downloads"), workers=workers
    )


def texts(folder: Path) -> list[str]:
    return [" ".join(d.sentences) for split in SPLITS for d in Corpus(folder, split).documents]


def rejected(folder: Path) -> list[dict[str, Any]]:
    return pa.ipc.open_file(str(folder / "rejects.arrow")).read_all().to_pylist()


def check(folder: Path, summary: dict[str, Any]) -> None:
    """What is promised of every corpus."""
    kept, bad = texts(folder), rejected(folder)
    assert summary["rows"] == summary["kept"] + summary["rejected"]
    assert (len(kept), len(bad)) == (summary["kept"], summary["rejected"])
    for reject in bad:
        assert reject["source"] and reject["position"] >= 1 and reject["reason"], reject
    for text in kept:
        assert text.strip()
        odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"}
        assert not odd, odd


def units_of(downloads: Path) -> Path:
    return downloads / "units"
