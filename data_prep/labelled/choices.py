"""Labels of multiple choice, each the text of one of its row's choices or its number from 0.

    choices ["it", "all"]           label "it" is a text, label "1" a number
    choices ["1", "2", "3", "4"]    label "1" may be either: the other rows tell

Labels are read alike in all rows of a task, and whatever the format of its files: a number in JSON is what it is in a
cell. Only where no number can be a text, rows may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from data_prep.errors import UserError
from data_prep.labelled.values import plain


class RightChoice(NamedTuple):
    """What a row says which of its choices is right, and where it stands."""

    where: str
    label: str
    options: Sequence[str]


def places(label: str, options: Sequence[str]) -> tuple[int | None, int | None]:
    """Which choice a label is if it is a text, and if it is a number from 0; None: none."""
    name = plain(label)
    same = [place for place, option in enumerate(options) if option == label]
    same = same or [place for place, option in enumerate(options) if plain(option) == name]
    is_number = _is_number(name) and len(name) < 10 and int(name) < len(options)
    return same[0] if len(same) == 1 else None, int(name) if is_number else None


def numbers(rows: Sequence[RightChoice], column: str) -> list[int]:
    """The number from 0 of the right choice of each row. column: of the labels, for errors.

    Each label can be read in one of two ways at least (`places`). UserError, with the row, where a label may be read
    either way and the others do not tell how.
    """
    found = [places(row.label, row.options) for row in rows]
    may_be_texts = all(text is not None for text, _ in found)
    may_be_numbers = all(number is not None for _, number in found)
    if may_be_texts and may_be_numbers:
        unclear = [row for row, (text, number) in zip(rows, found, strict=True) if text != number]
    elif may_be_texts or may_be_numbers:
        unclear = []
    else:
        unclear = [row for row, (_, number) in zip(rows, found, strict=True) if number is not None and _counts(row)]
    if unclear:
        where, label, _ = unclear[0]
        raise UserError(
            f"{where}: {column!r} is {label!r}, which may be the text of a choice or its number from 0, and the other "
            'rows do not tell; say which choice each label is by labels, such as {"1": 0, "2": 1}'
        )
    ways = (number if (may_be_numbers and not may_be_texts) or text is None else text for text, number in found)
    return [place for place in ways if place is not None]


def _counts(row: RightChoice) -> bool:
    return any(_is_number(plain(option)) for option in row.options)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
