"""Registry of detectors by the `kind` in `detector.json`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from data_prep.errors import UserError, choices
from pipeline.scoring.detector import Detector, kind_of

DETECTORS = {
    "rows": ("pipeline.scoring.row_detector", "RowDetector"),  # of a table, and images
    "documents": ("pipeline.scoring.document_detector", "DocumentDetector"),
}


def open_any(folder: Path) -> Detector:
    """Open the detector in a folder. UserError if there is none that can be used."""
    kind = kind_of(folder)
    if kind not in DETECTORS:
        why = f"its kind is {kind!r}; {choices(kind, DETECTORS)}" if kind else "detector.json is not there, or damaged"
        raise UserError(f"{folder} holds no detector that can be used ({why}); run its recipe again.")
    module, name = DETECTORS[kind]
    return getattr(import_module(module), name).open(folder)
