"""Values of rows as texts, lists and labels; UserError, with the place, for what is none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from data_prep.errors import UserError
from data_prep.tokens.cleaning import Cleaning

_LONGEST_NUMBER = 4000  # digits; Python refuses to read more than 4,300
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which JSON can spell


def short(value: object) -> str:
    """A value as errors show it."""
    if value is None:
        return "missing or null"
    text = _HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else text[:59] + "…"


def text_of(where: str, found: str, value: object, cleaning: Cleaning | None, may_be_empty: bool = False) -> str:
    """The text, cleaned. found: what was found, for errors; %s in it stands for the value."""
    if isinstance(value, str) and (half := _HALF.search(value)):
        problem = f"with half of a surrogate pair (\\u{ord(half[0]):04x}), which is no character"
        raise UserError(f"{where}: {found.replace('%s', short(value))}, {problem}; expected text")
    text = (value if cleaning is None else cleaning(value)) if isinstance(value, str) else ""
    if not text.strip() and not (may_be_empty and isinstance(value, str)):
        raise UserError(f"{where}: {found.replace('%s', short(value))}; expected text")
    return text


def as_text(where: str, name: str, value: object) -> str:
    """A text or a number as text; texts of a list with blanks between."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return " ".join(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number and not isinstance(value, str):
        raise UserError(f"{where}: {name!r} is {short(value)}; expected a text or a number.")
    return str(value)


def number_of(where: str, name: str, label: object, options: Sequence[str]) -> int:
    """Which of a row's choices a label means: its text, or its number from 0."""
    if isinstance(label, str) and label in options:
        return options.index(label)
    digits = str(label) if isinstance(label, int | str) and not isinstance(label, bool) else ""
    if digits.isdecimal() and len(digits) < 10 and int(digits) < len(options):
        return int(digits)
    raise UserError(f"{where}: {name!r} is {short(label)}, neither the text nor the number, from 0, of a choice.")


def choices_of(where: str, name: str, value: object) -> tuple[str, ...]:
    """A row's choices: a list, which separated values spell as JSON."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, list) or len(value) < 2:
        raise UserError(f"{where}: {name!r} is no list of two choices or more; write it as JSON has lists.")
    options = tuple(as_text(where, name, option) for option in value)
    if len(set(options)) < len(options):
        raise UserError(f"{where}: two choices in {name!r} are the same.")
    return options


def list_of(where: str, name: str, value: object) -> list[Any]:
    """The list, which is not empty."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {name!r} is {short(value)}; expected a list, not empty")
    return value


def label_of(where: str, name: str, value: object, cleaning: Cleaning | None) -> str:
    """The name of a label; a whole number is one, too."""
    if isinstance(value, str) and value.strip():
        return text_of(where, f"%s in {name!r}", value, cleaning).strip()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise UserError(f"{where}: {short(value)} in {name!r}; expected a name or a whole number")


def score_of(where: str, name: str, value: object) -> float:
    """The number."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {short(value)} in {name!r}; expected a number")
    return number


def in_order(label: str) -> tuple[bool, int, str]:
    """Sort key of labels: integers by value, then everything else by spelling."""
    is_number = label.removeprefix("-").isdecimal() and len(label) <= _LONGEST_NUMBER
    return (not is_number, int(label) if is_number else 0, label)
