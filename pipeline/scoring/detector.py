"""The interface of detectors of any data: rows of a table, images, documents.

A detector is a folder with `detector.json`, whose `kind` selects its class (`pipeline.scoring.detectors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_validator

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, inside, read
from data_prep.sealed import unsealed
from data_prep.settings import Settings
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject
from pipeline.fingerprint import digest, file_digest
from pipeline.scoring.drift import SCORE, Baseline

FORMAT = 1
FILE = "detector.json"
REASONS = 3  # columns, or words, that are named for a row


class Reason(NamedTuple):
    """A column, or a word, that makes a row unusual."""

    column: str
    share: float
    """Of what makes the row unusual."""
    why: str = ""
    """How its value lies outside of what was learned; empty if it does not."""


class Scores(NamedTuple):
    """A detector's results for R rows."""

    score: np.ndarray  # [R] float64, higher is more unusual
    flag: np.ndarray  # [R] bool, above the threshold
    reasons: list[list[Reason]]  # of each flagged row


class Batch(NamedTuple):
    """Rows of a file: their sources and positions [R], and what `score` takes."""

    sources: list[str]
    positions: np.ndarray
    inputs: Any


class Header(NamedTuple):
    """The lines above the first row of a file of lines."""

    skip: int = 0
    """Lines before the header that are no data."""
    header: bool = True


class Evaluation(NamedTuple):
    """A detector's score on test rows."""

    measure: str
    value: float
    target: float | None = None
    """The best value, where a higher one is not better."""


class TestRows(Protocol):
    """Test rows as `evaluate` takes them."""

    def __len__(self) -> int: ...


class Detector(Protocol):
    """Scores rows by how unusual they are."""

    KIND: ClassVar[str]
    """The `kind` in `detector.json`."""

    @property
    def reads(self) -> str:
        """Names what it reads, 8 hex digits: detectors of equal ones can be compared on the same rows."""
        ...

    @property
    def baseline(self) -> Baseline:
        """Distributions of normal rows, to measure drift against."""
        ...

    def readable(self, name: str) -> bool:
        """Whether a file of that name may hold its rows."""
        ...

    def files(self, path: str, downloads: Path) -> list[SourceFile]:
        """The files of a path (a file, folder, glob, remote one) that may hold its rows. UserError where none does."""
        ...

    def header(self) -> Header:
        """The header of its files of comma- or tab-separated lines."""
        ...

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        """The rows of a file in batches, and rejects that cannot be scored."""
        ...

    def score(self, inputs: Any) -> Scores:
        """Scores and reasons, each of which depends only on its row."""
        ...

    def drift_columns(self, inputs: Any, scores: Scores) -> dict[str, np.ndarray]:
        """Values [R] by name that drift is measured on: the score, and features of the rows."""
        ...

    def test_rows(self, corpus: Path, learned: np.ndarray) -> tuple[TestRows, int]:
        """Rows of a corpus's test split, without those whose digests are among `learned`; how many were left out."""
        ...

    def evaluate(self, rows: Any, normal: Sequence[str]) -> Evaluation:
        """Its score on rows from `test_rows`. normal: labels of normal images, if known."""
        ...

    def save(self, folder: Path) -> None:
        """Write the folder; `detector.json` comes last, and makes it complete."""
        ...


class Bins(Settings):
    """Histograms of normal rows, as `drift.Baseline` has them."""

    edges: dict[str, list[float]]
    counts: dict[str, list[Annotated[int, Field(ge=0)]]]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if set(self.edges) != set(self.counts) or SCORE not in self.edges:
            raise ValueError("edges and counts are not of the same columns, the score among them")
        for name, edges in self.edges.items():
            if len(self.counts[name]) != len(edges) + 1 or any(not a <= b for a, b in pairwise([-inf, *edges])):
                raise ValueError(f"the bins of {name!r} do not fit each other")
        return self


class Description(Settings):
    """What `detector.json` says of every detector."""

    format: int
    kind: str
    digest: str
    threshold: FiniteFloat
    baseline: Bins
    files: dict[str, str]
    """Digests of the other files."""

    @field_validator("format")
    @classmethod
    def _known(cls, value: int) -> int:
        if value != FORMAT:
            raise ValueError(f"this version reads format {FORMAT}")
        return value


D = TypeVar("D", bound=Description)


def read_description(folder: Path, kind: type[D]) -> D:
    """What `detector.json` says, once the other files are known to be those that it was made with.

    UserError where it cannot be used.
    """
    try:
        about = kind.model_validate(unsealed(read(inside(checked(folder), FILE))))
        for name, expected in about.files.items():
            if file_digest(inside(folder, name)) != expected:
                raise UnfitError(f"{name} is not the one that it was made with")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise unusable(folder, f"{FILE}: {path}: {first['msg'].removeprefix('Value error, ')}") from None
    except (UnfitError, ValueError) as error:
        raise unusable(folder, f"{FILE}: {error}") from error
    return about


def unusable(folder: Path, why: Any) -> UserError:
    """The error for a folder that holds no detector that can be used."""
    return UserError(f"{folder} holds no detector that can be used ({why}); run its recipe again.")


def digests_of(folder: Path) -> dict[str, str]:
    """Digests of the other files in a detector's folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def kind_of(folder: Path) -> str | None:
    """The kind of the detector in a folder; None if it cannot be read."""
    try:
        kind = unsealed(read(inside(checked(folder), FILE))).get("kind")
    except ValueError:
        return None
    return kind if isinstance(kind, str) else None


def name_of(folder: Path) -> str:
    """Digest of a detector's files, 16 hex digits, which identifies it next to scores."""
    folder = checked(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): file_digest(path) for path in files})[:16]


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the ROC curve of scores [R] that are higher for anomalies."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, scores))
