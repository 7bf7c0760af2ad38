"""Splits texts into words for comparison: case-folded, separated by white space, punctuation and symbols.

    words             for finding evaluation texts in training texts (Brown et al. 2020, appendix C)
    words_or_letters  for finding near duplicates (Lee et al. 2021)
    places            where words stand, for changing a text at one of them

Combining marks stay with their letters, so words are not cut at vowel signs or accents. Invisible characters (joiners,
marks of direction, variation selectors) are ignored. Chinese characters and kana are words by themselves. The first
two differ only for Thai, Lao, Burmese and Khmer, which have no spaces between words either.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and Chinese
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
_ASCII = {code: chr(code) if chr(code).isalnum() else " " for code in range(128)}
_COMMON = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00a0"  # quotes, dashes, ellipsis, fixed space
_UNSEEN = "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufe0e\ufe0f"


def words(text: str) -> list[str]:
    """Words; Thai is kept in runs, since n-grams of its letters are only a few words, which texts share by chance."""
    return _words(text, _CHARACTERS)


def words_or_letters(text: str) -> list[str]:
    """Words; Thai is cut into letters, since its runs are clauses, and one change would affect too many n-grams."""
    return _words(text, _CHARACTERS + _LETTERS)


def places(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, without the punctuation around them; "don't" and "re-open" are one.

    Characters of scripts that put no spaces between words are words by themselves.
    """
    apart, marks = _CHARACTERS + _LETTERS, _between_words().pattern.removeprefix("[").removesuffix("]+")
    edge = f"[^\\s{apart}{marks}]"
    return [match.span() for match in re.finditer(f"[{apart}]|{edge}(?:[^\\s{apart}]*{edge})?", text)]


def _words(text: str, apart: str) -> list[str]:
    text = text.casefold()
    if not text.isascii():
        for mark in _COMMON:  # without them most English is ASCII, which has a faster path
            text = text.replace(mark, " ")
    if text.isascii():
        return text.translate(_ASCII).split()
    for sign in _UNSEEN:
        text = text.replace(sign, "")
    text = _between_words().sub(" ", text)
    return re.findall(f"[{apart}]|[^\\s{apart}]+", text) if re.search(f"[{apart}]", text) else text.split()


@cache
def _between_words() -> re.Pattern[str]:
    """Control characters, punctuation and symbols, including emoji; only a few outside the BMP, for speed."""
    kinds = ((chr(code), unicodedata.category(chr(code))) for code in range(0x10000))
    marks = "".join(character for character, kind in kinds if kind[0] in "PS" or kind == "Cc")
    return re.compile(f"[{re.escape(marks)}\U0001f000-\U0001faff]+")


def has_spaces(text: str) -> bool:
    """Whether most letters of a text are of scripts that put spaces between words."""
    without = len(re.findall(f"[{_CHARACTERS}{_LETTERS}]", text))
    return 2 * without <= sum(map(str.isalpha, text))
