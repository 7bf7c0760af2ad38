"""Detectors of every kind of data: which kind a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from data_prep.shards.format import unsealed
from pipeline.scoring.document_detector import KIND, DocumentDetector
from pipeline.scoring.row_detector import FILE, Detector

AnyDetector: TypeAlias = Detector | DocumentDetector


def open_any(folder: Path) -> AnyDetector:
    """The detector in a folder. UserError where it holds none that can be used."""
    try:
        kind = unsealed((folder / FILE).read_bytes()).get("kind")
    except (OSError, ValueError):
        kind = None  # what is wrong is told by who opens it
    return DocumentDetector.open(folder) if kind == KIND else Detector.open(folder)
