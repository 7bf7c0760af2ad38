"""Values of rows as texts, lists and labels; UserError, with the place, for what is none."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from data_prep.errors import UserError, choices
from data_prep.opening.files import HALF
from data_prep.tokens.cleaning import Cleaning

_LONGEST_NUMBER = 4000  # digits; Python refuses to read more than 4,300
_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?", re.ASCII)
_PRINTED_TEXTS = re.compile(r"\[\s*['\"].*\]", re.DOTALL)  # as Python and NumPy print lists
_PRINTED = re.compile(rf"{_PRINTED_TEXTS.pattern}|\[\s*\d[\d\s]*\]", re.DOTALL)  # of numbers, too


def short(value: object) -> str:
    """A value as errors show it."""
    if value is None:
        return "missing or null"
    text = HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else text[:59] + "…"


def text_of(where: str, found: str, value: object, cleaning: Cleaning | None, may_be_empty: bool = False) -> str:
    """The text, cleaned. found: what was found, for errors; %s in it stands for the value."""
    if isinstance(value, str):
        _check_whole(where, found, value)
    text = (value if cleaning is None else cleaning(value)) if isinstance(value, str) else ""
    if not text.strip() and not (may_be_empty and isinstance(value, str)):
        raise UserError(f"{where}: {found.replace('%s', short(value))}; expected text")
    return text


def _check_whole(where: str, found: str, text: str) -> None:
    if half := HALF.search(text):
        problem = f"with half of a surrogate pair (\\u{ord(half[0]):04x}), which is no character"
        raise UserError(f"{where}: {found.replace('%s', short(text))}, {problem}; expected text")


def as_text(where: str, name: str, value: object) -> str:
    """A text or a number as text; texts of a list with blanks between. All characters are whole."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if isinstance(value, str):
        _check_whole(where, f"{name!r} is %s", value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number and not isinstance(value, str):
        raise UserError(f"{where}: {name!r} is {short(value)}; expected a text or a number.")
    return str(value)


def choices_of(where: str, name: str, value: object, cleaning: Cleaning | None) -> tuple[str, ...]:
    """A row's choices: a list, which separated values spell as JSON."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, list) or len(value) < 2:
        raise UserError(f"{where}: {name!r} is no list of two choices or more; write it as JSON has lists.")
    texts = (as_text(where, name, option) for option in value)
    options = tuple(text_of(where, f"a choice in {name!r} is %s", text, cleaning) for text in texts)
    if len(set(options)) < len(options):
        raise UserError(f"{where}: two choices in {name!r} are the same.")
    return options


def list_of(where: str, name: str, value: object) -> list[Any]:
    """The list, which is not empty."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {name!r} is {short(value)}; expected a list, not empty")
    return value


def texts_of(where: str, name: str, value: object, are_words: bool) -> list[Any]:
    """A list of words or of tags, not empty, which a cell spells as JSON, or with blanks between them."""
    if isinstance(value, str):
        value = _in_cell(where, name, value, are_words)
    return list_of(where, name, value)


def _in_cell(where: str, name: str, cell: str, are_words: bool) -> list[Any]:
    if cell.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            values = json.loads(cell)
            if not (are_words and values and all(isinstance(value, int) for value in values)):  # the word [1]
                return values
        if (_PRINTED_TEXTS if are_words else _PRINTED).fullmatch(cell.strip()):
            raise UserError(
                f"{where}: {name!r} is {short(cell)}, a list as Python prints it; write it as JSON has lists "
                "(json.dumps), or what is in it with blanks between"
            )
    return cell.split(" ")


def label_of(where: str, name: str, value: object, cleaning: Cleaning | None) -> str:
    """The name of a label; a whole number and a truth value are one, too."""
    if isinstance(value, str) and value.strip():
        return text_of(where, f"%s in {name!r}", value, cleaning).strip()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return spelled(value)
    raise UserError(f"{where}: {short(value)} in {name!r}; expected a name or a whole number")


def spelled(value: object) -> str:
    """A value as the text that JSON and separated values have for it; a whole number without decimals."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@lru_cache(4096)
def plain(text: str) -> str:
    """What texts have in common that spell one name, whole number or truth value: `1` of 1.0 and 01, `true` of True."""
    text = unicodedata.normalize("NFC", text.strip())
    if len(text) <= _LONGEST_NUMBER and (number := _WHOLE.fullmatch(text)):
        return f"{'-' * (number[1] == '-' and number[2] != '0')}{number[2]}"
    return text.lower() if text.lower() in ("true", "false") else text


def known_label(where: str, name: str, label: str, known: Iterable[str], task: str) -> str:
    """Which of the known labels a label is, also in another spelling (`plain`). UserError if it is none."""
    if label in known:
        return label
    same = [other for other in known if plain(other) == plain(label)]
    if len(same) != 1:
        raise UserError(f"{where}: the label {label!r} in {name!r}; {choices(label, known, f'labels in {task}')}")
    return same[0]


def alike(labels: Iterable[str]) -> list[str]:
    """What to say of labels that differ only in how they are spelled: case, width, or the form of a number."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(plain(unicodedata.normalize("NFKC", label).casefold()), []).append(label)
    return [
        f"the labels {' and '.join(map(repr, group))} differ only in how they are spelled, and count as "
        f"{len(group)}; if they are one, map them to one name by labels"
        for group in groups.values()
        if len(group) > 1
    ]


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
