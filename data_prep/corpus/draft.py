"""A corpus in preparation: the data that the steps of an ingest pass to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_prep.compute.workers import WorkerPool
from data_prep.corpus.documents import SPLITS, SplitConfig

REJECTED = len(SPLITS)  # marks rejected rows among split numbers
Progress = Callable[..., None]
"""`progress(message, done=None, warning="")`: one line for a person, the share done in 0 … 1, and a warning."""


class Unit(Protocol):
    """The input of one reading step: plain values that can be sent to any process."""

    @property
    def key(self) -> str:
        """Cache key of everything that the unit's rows depend on."""
        ...

    @property
    def source(self) -> int:
        """Index of its source."""
        ...

    @property
    def split(self) -> str | None:
        """Split of all its rows, if its source says so; None: rows are divided by `data.split`."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def contents(self) -> Sequence[tuple[str, str]]:
        """(name, digest of the contents) of each of its files."""
        ...


class Decision(Protocol):
    """The split or rejection of every readable row; rows are numbered across all units."""

    @property
    def split_of(self) -> np.ndarray:
        """[N] uint8: index of a row's split, or REJECTED."""
        ...

    @property
    def num_tolerated(self) -> int:
        """Number of rejected rows that do not count as bad (copies)."""
        ...

    def span(self, unit: int) -> slice:
        """Range of a unit's row numbers."""
        ...

    def reasons(self, rows: slice = slice(None)) -> Counter[str]:
        """Number of rejected rows by reason, among `rows`."""
        ...

    def marks(self, unit: int) -> Any:
        """Further decisions about a unit that its writer needs."""
        ...

    def examples(self, limit: int) -> list[str]:
        """Messages about up to `limit` rejected rows that count as bad."""
        ...


@dataclass(frozen=True)
class Declared:
    """The splits of units whose sources declare one."""

    splits: Sequence[str | None]
    counts: Sequence[int]
    """Number of rows of each unit."""

    def assign(self, split_of: np.ndarray) -> np.ndarray:
        """Set the declared splits in `split_of` [N] where it is not REJECTED; returns [N] bool: rows left to divide."""
        codes = np.array([-1 if split is None else SPLITS.index(split) for split in self.splits], np.int64)
        code_of = np.repeat(codes, self.counts)
        kept = split_of != REJECTED
        split_of[kept & (code_of >= 0)] = code_of[kept & (code_of >= 0)]
        return kept & (code_of < 0)

    def left(self, split: SplitConfig) -> SplitConfig:
        """The shares of the splits that no source declares."""
        return split.model_copy(update={name: 0.0 for name in ("validation", "test") if name in self.splits})


@dataclass(frozen=True)
class Writing:
    """A task: where to write the rows of a unit."""

    folder: Path
    out: Path
    file: str
    split_of: np.ndarray
    marks: Any = None
    """Further decisions about the unit; see `Decision.marks`."""


@dataclass
class Draft:
    """Settings, units, and the results of the steps so far."""

    data: Any
    units: Sequence[Any]
    seed: int
    out_dir: Path
    downloads: Path
    scratch: Path
    pool: WorkerPool
    progress: Progress
    read_folders: list[Path]
    """Folder with the rows read from each unit."""
    folders: list[Path]
    """Folder with the rows of each unit to assign to splits: as read, or as cast."""
    read: list[dict[str, Any]] = field(default_factory=list)
    """Summaries of reading: `rows`, `reasons`, `first` (three rejects), perhaps `filtered`."""
    agreed: Any = None
    """Result of `Kind.agree`."""
    cast: list[dict[str, Any]] = field(default_factory=list)
    """Summaries of casting: remaining `rows`, `reasons`, `first`."""

    @property
    def declared(self) -> Declared:
        """The splits that sources declare."""
        return Declared([unit.split for unit in self.units], self.num_kept)

    @property
    def num_kept(self) -> list[int]:
        """Number of rows of each unit to assign to splits."""
        return [summary["rows"] for summary in self.cast] if self.cast else [summary["kept"] for summary in self.read]
