"""Which language's rules a text is split by better."""

from __future__ import annotations

import pytest

from data_prep.corpus.documents import CorpusDocument
from data_prep.text.language import better_rules, language_of, scripts

GEORGIAN = "ეს პირველია. ეს მეორეა. ეს მესამეა. ეს მეოთხეა."


class Documents:
    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> CorpusDocument:
        return CorpusDocument("", [self.texts[number]], [0], "", {})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Plain English. 中文", None),
        ("学而时习之，不亦说乎", "zh"),
        ("吾輩は猫である", "ja"),
        ("漢" * 19 + "の", "ja"),
        ("漢" * 20 + "の", "zh"),
        ("αβγ abc", None),
        ("αβγδ abc", "el"),
        ("การอยู่ร่วมกัน English", "th"),
        ("और", "hi"),
        ("1234 .", None),
    ],
)
def test_a_script_tells_a_language(text: str, language: str | None) -> None:
    assert language_of(scripts([text])) == language


def test_rules_that_find_more_sentences_are_named() -> None:
    corpus = Documents(GEORGIAN, GEORGIAN)
    assert better_rules(corpus, "en") == {"language": "ka", "found": 2, "would_find": 8}  # pyright: ignore[reportArgumentType]
    few = Documents("ეს პირველია. ეს მეორეა.", "ეს მესამეა.")
    assert better_rules(few, "en") == {"language": "ka", "found": 2, "would_find": 3}  # pyright: ignore[reportArgumentType]
    assert better_rules(corpus, "ka") == {}  # pyright: ignore[reportArgumentType]
    assert better_rules(Documents("One. Two. Three."), "en") == {}  # pyright: ignore[reportArgumentType]
    assert better_rules(Documents(), "en") == {}  # pyright: ignore[reportArgumentType]
