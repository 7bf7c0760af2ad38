"""Displayable views of examples, in a few types that are independent of the display.

A kind of data makes views of its rows (`Kind.show`); code that displays them depends on these types but on no kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from data_prep.corruptions.base import Corruption
from data_prep.shards.rows import Rows

Mark = Literal["", "target", "masked", "random", "kept", "special", "unknown"]
"""target: must be predicted. masked, random, kept: how a target appears in the input. special, unknown: text tokens."""


class Token(NamedTuple):
    """A piece of text, including the space before it; `opens` is true if it begins a line."""

    text: str
    mark: Mark = ""
    opens: bool = False


@dataclass(frozen=True)
class Tokens:
    """A text in pieces."""

    tokens: tuple[Token, ...]


class Target(NamedTuple):
    """A piece to predict: its position in x, its text, how it was corrupted, and what the network sees instead."""

    position: int
    text: str
    mark: Mark
    seen: str


@dataclass(frozen=True)
class Targets:
    """The pieces to predict."""

    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Lines:
    """Lines of a text, and the number of further lines."""

    lines: tuple[str, ...]
    num_more: int = 0


@dataclass(frozen=True)
class Image:
    """pixels: [C, H, W], 1 or 3 channels, in 0 … 1."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Cells:
    """Values by column name; None for missing values."""

    cells: dict[str, Any]


@dataclass(frozen=True)
class Frames:
    """values: [T, F], frames of a spectrogram from low to high frequencies. rate: frames per second."""

    values: np.ndarray
    rate: float


@dataclass(frozen=True)
class Wave:
    """samples: [T], in −1 … 1. rate: samples per second."""

    samples: np.ndarray
    rate: float


View: TypeAlias = Tokens | Targets | Lines | Image | Cells | Frames | Wave
Viewer: TypeAlias = Callable[[np.ndarray], View]
"""Function from the network input of one example to a view."""


@dataclass(frozen=True)
class Example:
    """One example to display: views by name (x, x′, x″ …), and a remark."""

    title: str
    views: dict[str, View]
    about: str = ""


@dataclass(frozen=True)
class Selection:
    """Rows to display, with their context.

    rows: as training reads them. numbers: [R] int64, indices of the rows in the split. unchanged: the stored rows, if
    training augments them before corruption. corruption: of these rows; None if they are not corrupted. settings: those
    that the shards were written with.
    """

    rows: Rows
    numbers: np.ndarray
    split: str
    settings: dict[str, Any]
    corruption: Corruption | None = None
    unchanged: Rows | None = None
