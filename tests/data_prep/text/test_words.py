"""Words: the same ones however a text is set, cut at no mark that belongs to a letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.words import words, words_or_letters

BOTH = pytest.mark.parametrize("split", [words, words_or_letters])
Split = Callable[[str], list[str]]


@BOTH
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("?! — …", []),
        ("Don’t STOP — it's “Straße”, a_b 3.5", ["don", "t", "stop", "it", "s", "strasse", "a", "b", "3", "5"]),
        ("ΟΔΟΣ ΕΛΛΆΔΟΣ", ["οδοσ", "ελλάδοσ"]),  # not ς
        ("हिन्दी में।", ["हिन्दी", "में"]),  # vowel signs are no letters
        ("Cafe\u0301 e\u0301te\u0301", ["cafe\u0301", "e\u0301te\u0301"]),
        ("می\u200cخواهم \u200eab", ["میخواهم", "ab"]),  # a joiner, a mark of direction
        ("中文字, 東京ひと・カナ", list("中文字東京ひとカナ")),
        ("x中y", ["x", "中", "y"]),
        ("I ❤️ you 👨\u200d👩\u200d👧 all", ["i", "you", "all"]),
        ("a\u2028b\u00a0c\x07d", list("abcd")),
    ],
)
def test_words_are_those_of_a_reader(split: Split, text: str, expected: list[str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("text", ["ภาษาไทย", "ພາສາລາວ", "မြန်မာ", "ភាសាខ្មែរ"])
def test_scripts_without_spaces_stay_in_runs_or_fall_into_letters(text: str) -> None:
    assert words(f"{text}, {text} a") == [text, text, "a"]
    assert words_or_letters(f"{text}, {text} a") == [*text, *text, "a"]


@BOTH
@given(text=st.text(st.characters(max_codepoint=127) | st.sampled_from("‘’“”–—…\u00a0")))
def test_both_ways_agree(split: Split, text: str) -> None:
    expected = re.findall(r"[^\W_]+", text.lower())
    assert split(text) == expected
    assert split(text + " é")[:-1] == expected


@BOTH
@given(text=st.text(max_size=60))
def test_spaces_and_marks_between_words_do_not_count(split: Split, text: str) -> None:
    parts = split(text)
    assert split(" ".join(parts)) == split("\n—\t".join(parts)) == parts
    assert not any(character.isspace() or unicodedata.category(character) == "Pd" for character in "".join(parts))
