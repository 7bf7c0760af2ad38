"""What there is to say of data, in a few types that say nothing of where they are shown.

A kind of data makes them of what it counted (`Kind.statistics`). They become tables in MLflow, figures, a page and
lines on a terminal, by their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Values in columns. name: of its file; the names of columns hold no dots (MLflow takes them apart there)."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Histogram:
    """How often values lie in which bins. series: edges [n + 1] and counts [n] by name, of splits or sources."""

    name: str
    title: str
    unit: str
    items: str
    """What is counted."""
    series: Mapping[str, tuple[Sequence[float], Sequence[int]]]
    logarithmic: bool = False


@dataclass(frozen=True)
class Bars:
    """Counts of named things, in parts: counts by thing, by part."""

    name: str
    title: str
    unit: str
    parts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Curves:
    """x and y by name, both on logarithmic axes. marks: places on x that stand out, by label."""

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    marks: Mapping[str, float] = field(default_factory=dict)
    reference: str | None = None
    """Label of the line from the first point of the first series downwards, as 1 / x."""


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str


Block: TypeAlias = Table | Histogram | Bars | Curves | Note


@dataclass(frozen=True)
class Statistics:
    """numbers: those worth a metric, by group. blocks: all that people may want to look at, in that order."""

    numbers: Mapping[str, Any]
    blocks: Sequence[Block]
