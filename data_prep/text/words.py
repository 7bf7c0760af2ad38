"""The words by which texts are compared: case-folded, parted at white space, punctuation and symbols.

    words             evaluation texts are looked for in training texts (Brown et al. 2020, appendix C)
    words_or_letters  near duplicates are looked for (Lee et al. 2021)

Marks stay with the letters that they belong to: what is written with vowel signs or accents is not cut at them. What is
not seen (joiners, marks of direction, variation selectors) does not count. Chinese characters and kana are words by
themselves. Thai, Lao, Burmese and Khmer put no spaces between words either, and there alone the two differ.
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
    """Thai is left in runs: a dozen of its letters make two or three words, which texts share by chance."""
    return _words(text, _CHARACTERS)


def words_or_letters(text: str) -> list[str]:
    """Thai falls into letters: a run is a clause, and of a few clauses one change would leave nothing in common."""
    return _words(text, _CHARACTERS + _LETTERS)


def _words(text: str, apart: str) -> list[str]:
    text = text.casefold()
    if not text.isascii():
        for mark in _COMMON:  # without them most English is ASCII, for which there is a quicker way
            text = text.replace(mark, " ")
    if text.isascii():
        return text.translate(_ASCII).split()
    for sign in _UNSEEN:
        text = text.replace(sign, "")
    text = _between_words().sub(" ", text)
    return re.findall(f"[{apart}]|[^\\s{apart}]+", text) if re.search(f"[{apart}]", text) else text.split()


@cache
def _between_words() -> re.Pattern[str]:
    """Control characters, punctuation and symbols of all scripts, emoji among them; few of other planes, for speed."""
    kinds = ((chr(code), unicodedata.category(chr(code))) for code in range(0x10000))
    marks = "".join(character for character, kind in kinds if kind[0] in "PS" or kind == "Cc")
    return re.compile(f"[{re.escape(marks)}\U0001f000-\U0001faff]+")
