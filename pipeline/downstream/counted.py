"""How many of some examples are read, or learned, otherwise than they stand there: numbers that can be added."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Counted(NamedTuple):
    """`count` of `total`, none perhaps; `text` says of what (rows, words, answers) and what is odd about them."""

    count: int
    total: int
    text: str

    def __str__(self) -> str:
        return f"{self.count:,} of {self.total:,} {self.text}"


def summed(parts: Iterable[Counted]) -> list[Counted]:
    """What was counted in the parts of a whole, one for each text."""
    numbers: dict[str, tuple[int, int]] = {}
    for count, total, text in parts:
        before = numbers.get(text, (0, 0))
        numbers[text] = (before[0] + count, before[1] + total)
    return [Counted(*of, text) for text, of in numbers.items()]


def said(counted: Iterable[Counted]) -> list[str]:
    """Those that there are, in sentences."""
    return [str(each) for each in counted if each.count]
