"""Examples as a person looks at them, in a few types that say nothing of where they are shown.

A kind of data makes views of its rows (`Kind.show`); whoever shows them knows these types and no kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from data_prep.corruptions.base import Corruption
from data_prep.shards.rows import Rows

Mark = Literal["", "target", "masked", "random", "kept", "special", "unknown"]
"""target: must be predicted. masked, random, kept: what the network sees in its place. special, unknown: of a text."""


class Token(NamedTuple):
    """A piece of text, with the space before it; `opens` where it begins a line."""

    text: str
    mark: Mark = ""
    opens: bool = False


@dataclass(frozen=True)
class Tokens:
    """A text in pieces."""

    tokens: tuple[Token, ...]


class Target(NamedTuple):
    """One of the pieces to predict: its position in x, its text, what became of it, and what was seen instead."""

    position: int
    text: str
    mark: Mark
    seen: str


@dataclass(frozen=True)
class Targets:
    """Pieces to predict, each at its position."""

    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Lines:
    """Lines of a text, and how many more there are."""

    lines: tuple[str, ...]
    num_more: int = 0


@dataclass(frozen=True)
class Image:
    """pixels: [C, H, W], 1 or 3 channels, in 0 … 1."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Cells:
    """Values by the names of their columns; None where one is missing."""

    cells: dict[str, Any]


@dataclass(frozen=True)
class Frames:
    """values: [T, F], frames of a spectrogram from low to high frequencies. rate: frames a second."""

    values: np.ndarray
    rate: float


@dataclass(frozen=True)
class Wave:
    """samples: [T], in −1 … 1. rate: samples a second."""

    samples: np.ndarray
    rate: float


View: TypeAlias = Tokens | Targets | Lines | Image | Cells | Frames | Wave
Viewer: TypeAlias = Callable[[np.ndarray], View]
"""Values of one example, as the network is given them, to a view."""


@dataclass(frozen=True)
class Example:
    """What there is to see of one example: views by their names (x, x′, x″ …), and a remark."""

    title: str
    views: dict[str, View]
    about: str = ""


@dataclass(frozen=True)
class Selection:
    """Rows to look at, with what is known of them.

    rows: as training reads them. numbers: [R] int64, theirs in the split. unchanged: the same rows as they are stored,
    where training changes them before it corrupts them. corruption: theirs; None where they are not corrupted.
    settings: what the shards were written by.
    """

    rows: Rows
    numbers: np.ndarray
    split: str
    settings: dict[str, Any]
    corruption: Corruption | None = None
    unchanged: Rows | None = None
