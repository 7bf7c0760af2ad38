"""A corpus while it is made: what the steps of an ingest hand on to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_prep.corpus.documents import SPLITS
from data_prep.workers import WorkerPool

REJECTED = len(SPLITS)  # a row has the number of its split, or this
Progress = Callable[[str, float | None], None]


class Unit(Protocol):
    """What is read in one go: plain values, good in any process."""

    @property
    def key(self) -> str:
        """Of all that its rows depend on."""
        ...

    @property
    def source(self) -> int:
        """Number of its source."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def contents(self) -> Sequence[tuple[str, str]]:
        """Names of its files, each with the digest of what the file holds."""
        ...


class Decided(Protocol):
    """What becomes of the rows that could be read, numbered through all units."""

    @property
    def split_of(self) -> np.ndarray:
        """[N] uint8: number of a row's split, or REJECTED."""
        ...

    @property
    def num_tolerated(self) -> int:
        """Rejected rows that are no fault of the data (copies)."""
        ...

    def span(self, unit: int) -> slice:
        """Numbers of a unit's rows."""
        ...

    def reasons(self, rows: slice = slice(None)) -> Counter[str]:
        """Why how many of some rows were rejected."""
        ...

    def marks(self, unit: int) -> Any:
        """What else was decided about a unit, for whoever writes it."""
        ...

    def examples(self, limit: int) -> list[str]:
        """Sentences about rejected rows that count as bad."""
        ...


@dataclass(frozen=True)
class Writing:
    """Where the rows of a unit go."""

    folder: Path
    out: Path
    file: str
    split_of: np.ndarray
    marks: Any = None
    """What else was decided about the unit."""


@dataclass
class Draft:
    """Settings, units, and what each step found so far."""

    data: Any
    units: Sequence[Any]
    seed: int
    out_dir: Path
    downloads: Path
    scratch: Path
    pool: WorkerPool
    progress: Progress
    read_folders: list[Path]
    """What was read of each unit."""
    folders: list[Path]
    """Rows of each unit that the decision is about: what was read, or cast."""
    read: list[dict[str, Any]] = field(default_factory=list)
    """Summaries of reading: `rows`, `reasons`, `first` (three rejects), perhaps `filtered`."""
    agreed: Any = None
    """What `Kind.agree` said."""
    cast: list[dict[str, Any]] = field(default_factory=list)
    """Summaries of casting: `rows` that are left, `reasons`, `first`."""

    @property
    def num_kept(self) -> list[int]:
        """Rows of each unit that the decision is about."""
        return [summary["rows"] for summary in self.cast] if self.cast else [summary["kept"] for summary in self.read]
