"""Tables and figures of statistics, in a few types that are independent of the display.

A kind of data makes them from its counts (`Kind.statistics`). Depending on the type, they become tables in MLflow,
figures, a page, or lines on a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Values in columns. name: of its file. Column names contain no dots, at which MLflow would split them."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Histogram:
    """Counts of values per bin. series: edges [n + 1] and counts [n] by name of a split or source."""

    name: str
    title: str
    unit: str
    items: str
    """What is counted."""
    series: Mapping[str, tuple[Sequence[float], Sequence[int]]]
    logarithmic: bool = False


@dataclass(frozen=True)
class Bars:
    """Stacked bars: counts by bar, by part."""

    name: str
    title: str
    unit: str
    parts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Curves:
    """x and y by name, both on logarithmic axes. marks: positions on the x axis to mark, by label."""

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    marks: Mapping[str, float] = field(default_factory=dict)
    reference: str | None = None
    """Label of a reference line proportional to 1 / x, through the first point of the first series."""


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str


Block: TypeAlias = Table | Histogram | Bars | Curves | Note


@dataclass(frozen=True)
class Statistics:
    """numbers: values to log as metrics, by group. blocks: what to display, in order."""

    numbers: Mapping[str, Any]
    blocks: Sequence[Block]
