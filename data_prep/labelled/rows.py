"""Rows as files hold them, before a head makes examples of them, and what is noticed while they are read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.errors import UserError

NAMED = 3  # of odd rows, in a remark


class Row(NamedTuple):
    """One row. `where`: path and line, for errors; `place`: file and line, for remarks; `folder`: where paths in it
    begin."""

    where: str
    place: str
    fields: dict[str, Any]
    folder: Path = Path()


@dataclass(frozen=True)
class Asked:
    """How files are read, and which fields of theirs are used."""

    wanted: Collection[str] = ()
    encoding: str | None = None
    delimiter: str | None = None
    """What parts columns; None: what the file's name and first lines say."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a file without a header."""
    quotes: bool = True
    """Whether a quote may quote; False: it is a character, and a row is a line."""
    split: str = "train"
    """Which part of a folder is read."""
    may_have: Collection[str] = ()
    """Fields that are used, too, where files have them, such as one with the language of rows."""


@dataclass
class Reading:
    """What readers tell besides rows."""

    notes: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Names of classes by column, where a file has them."""
    odd: dict[str, list[str]] = field(default_factory=dict)
    """Places by what is odd about them."""

    def add(self, what: str, place: str) -> None:
        """Count something odd. what: a noun with what is odd, such as `rows without text`."""
        self.odd.setdefault(what, []).append(place)

    def remarks(self) -> list[str]:
        """Notes, and numbers of what is odd with the first places."""
        notes = list(dict.fromkeys(self.notes))
        return [*notes, *(f"{what}: {len(places):,} ({first_of(places)})" for what, places in self.odd.items())]


class Rejects:
    """Rows that cannot be used: refused, or left out and counted if so many are allowed."""

    def __init__(self, most: int, reading: Reading) -> None:
        self._left, self._most, self._reading = most, most, reading

    def add(self, error: UserError) -> None:
        """Raises the error if there are more of them than `most`."""
        if not self._left:
            over = f" (and max_rejects allows {self._most:,} rows that cannot be used)" if self._most else ""
            raise UserError(f"{error}{over}")
        self._left -= 1
        self._reading.add("rows that cannot be used, left out", str(error))


def first_of(places: list[str]) -> str:
    """The first few of some places."""
    return ", ".join(places[:NAMED]) + (", …" if len(places) > NAMED else "")
