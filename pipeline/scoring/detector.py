"""What every detector answers, whatever its data: rows of a table, images, documents.

A detector is a folder with `detector.json`, whose `kind` says who opens it (`pipeline.scoring.detectors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from data_prep.sealed import unsealed
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject
from pipeline.fingerprint import digest, file_digest
from pipeline.scoring.drift import Baseline

FORMAT = 1
FILE = "detector.json"
REASONS = 3  # columns, or words, that are named for a row


class Scores(NamedTuple):
    """What a detector says of R rows."""

    score: np.ndarray  # [R] float64, higher is more unusual
    flag: np.ndarray  # [R] bool, above the threshold
    reasons: list[list[tuple[str, float]]]  # of each row: columns, and their share of what makes it unusual


class Batch(NamedTuple):
    """Rows of a file: their sources and positions [R], and what `score` takes."""

    sources: list[str]
    positions: np.ndarray
    inputs: Any


class Header(NamedTuple):
    """What stands above the first row of a file of lines."""

    skip: int = 0
    """Lines before the header that are no data."""
    header: bool = True


class Evaluation(NamedTuple):
    """How a detector does on test rows."""

    measure: str
    value: float
    target: float | None = None
    """The value that it should have, where more is not better."""


class TestRows(Protocol):
    """Test rows as `evaluate` takes them."""

    def __len__(self) -> int: ...


class Detector(Protocol):
    """Scores rows by how unusual they are."""

    KIND: str
    """In `detector.json`."""

    @property
    def baseline(self) -> Baseline:
        """What normal rows look like."""
        ...

    def readable(self, name: str) -> bool:
        """Whether a file of that name may hold its rows."""
        ...

    def files(self, path: str, downloads: Path) -> list[SourceFile]:
        """The files of a path (a file, folder, glob, remote one) that may hold its rows. UserError where none does."""
        ...

    def header(self) -> Header:
        """What stands above the rows of a file of comma- or tab-separated lines."""
        ...

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        """The rows of a file, some at a time, and those that cannot be scored."""
        ...

    def score(self, inputs: Any) -> Scores:
        """Scores and reasons, each a function of its row alone."""
        ...

    def drift_columns(self, inputs: Any, scores: Scores) -> dict[str, np.ndarray]:
        """Values [R] by name that drift is measured on: the score, and what is known of the rows."""
        ...

    def test_rows(self, corpus: Path, learned: np.ndarray) -> tuple[TestRows, int]:
        """Rows of a corpus's test split, without those whose digests are among `learned`; how many were left out."""
        ...

    def evaluate(self, rows: Any, normal: Sequence[str]) -> Evaluation:
        """How well it does on rows that `test_rows` gave. normal: labels of normal images, where they are known."""
        ...

    def save(self, folder: Path) -> None:
        """Write the folder; `detector.json` last, so that it is there whole or not at all."""
        ...


def kind_of(folder: Path) -> str | None:
    """The kind of detector that a folder holds; None where that cannot be read."""
    try:
        return unsealed((folder / FILE).read_bytes()).get("kind")
    except (OSError, ValueError):
        return None


def name_of(folder: Path) -> str:
    """Digest of a detector's files, 16 hex digits: scores carry it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): file_digest(path) for path in files})[:16]


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the ROC curve of scores [R] that are higher for anomalies."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, scores))
