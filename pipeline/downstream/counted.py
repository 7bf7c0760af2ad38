"""How many of some examples are read, or learned, otherwise than they stand there: numbers that can be added."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
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


def of_seeds(by_seed: Iterable[Iterable[Counted]]) -> list[str]:
    """What was counted with each seed, in sentences: of each text that of which there is most."""
    of_texts: dict[str, list[Counted]] = {}
    for each in chain.from_iterable(by_seed):
        of_texts.setdefault(each.text, []).append(each)
    most = [(max(counted), len(set(counted)) > 1) for counted in of_texts.values()]
    return [f"{each}{', in the seed with most' * varies}" for each, varies in most if each.count]
