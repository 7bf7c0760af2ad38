"""Gopher's rules: quality and repetition, with the published limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.rules.config import GopherConfig, Outcome
from data_prep.text.rules.gopher import Gopher, duplicates, ngram_shares
from data_prep.tokens.cleaning import clean
from tests.data_prep.rule_texts import PROSE, different, make


def test_gopher_has_the_published_thresholds() -> None:
    assert list(GopherConfig().model_dump().values()) == [
        *(50, 100_000, 3, 10, 0.1, 0.9, 0.3, 0.8, ["the", "be", "to", "of", "and", "that", "have", "with"], 2),
        *(0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
    ]


def _text(*words: str) -> str:
    return " ".join(["the", "of", *words])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        (_text(*different(48)), ""),
        (_text(*different(47)), "fewer than 50 words"),
        (_text(*["a"] * 99_998), "words too short"),
        (_text(*["a"] * 99_999), "more than 100000 words"),
        (_text(*different(100, 10)), ""),
        (" ".join(["the", "and", *different(58, 3)]), ""),
        (" ".join(["the", "of", *different(58, 3), "ab"]), "words too short"),
        (_text(*different(100, 11)), "words too long"),
        (_text(*different(98), *["#"] * 10).replace(" #", "#"), ""),
        (_text(*different(98), *["#"] * 11).replace(" #", "#"), "too many hash signs"),
        (
            _text(*different(98), *["…"] * 5, *["..."] * 6).replace(" …", "…").replace(" ...", "..."),
            "too many ellipses",
        ),
        (_text(*different(78), *(f"{i}{i}" for i in range(10, 30))), ""),
        (_text(*different(77), *(f"{i}{i}" for i in range(10, 31))), "too few words with a letter"),
        (" ".join(["The", *different(60)]), "too few stop words"),
        (" ".join(["The", "the", *different(60)]), "too few stop words"),
        (" ".join(["The", "there", "with,", *different(60)]), ""),
        ("\n".join(["•" + word for word in _text(*different(88, 7)).split()]), "too many bullets"),
        ("\n".join(["-" + word for word in _text(*different(88, 7)).split()][:81]) + "\na" * 9, ""),
        ("\n".join(["-" + word for word in _text(*different(88, 7)).split()][:82]) + "\na" * 9, "too many bullets"),
        (f"{_text(*different(60))}\na…\nb...\nc…" + "\n1\n2\n3\n4\n5\n6", ""),
        (f"{_text(*different(60))}\na…\nb...\nc…" + "\n1\n2\n3\n4\n5", "too many lines that end in an ellipsis"),
        (f"{_text(*different(60))}\na…\nb...", "too many lines that end in an ellipsis"),
    ],
)
def test_gopher_quality(text: str, reason: str) -> None:
    outcome = make(gopher={})(text)
    assert outcome == Outcome(None if reason else text, reason and f"gopher: {reason}")


@pytest.mark.parametrize("mark", "•‣⁃∙◦●○■□▪▫-–*")
def test_every_usual_mark_is_a_bullet(mark: str) -> None:
    text = "\n".join(f"{mark}{word}" for word in _text(*different(60)).split())
    assert make(gopher={})(text).reason == "gopher: too many bullets"


def test_duplicates() -> None:
    assert duplicates(["aa", "b", "aa", "aa", "cccc"]) == (pytest.approx(2 / 5), pytest.approx(4 / 11))
    assert duplicates(["a", "b"]) == (0, 0)


def test_gopher_duplicate_lines_and_paragraphs() -> None:
    prose = " ".join(_text(*different(60)).split())
    assert make(gopher={})("\n".join([prose, *"abc", *"ab"])).reason == "gopher: duplicate lines"
    assert make(gopher={})("\n".join([prose, *"abcd", *"ab"])).text
    long = " ".join(different(300)[200:])
    assert make(gopher={})("\n".join([prose, *"abc", long, long])).reason == "gopher: characters in duplicate lines"
    lines_off = {"duplicate_lines": None, "duplicate_line_characters": None}
    text = "\n\n".join([prose, *"abc", *"ab"])
    assert make(gopher=lines_off)(text).reason == "gopher: duplicate paragraphs"
    assert make(gopher=lines_off)(text.replace("\n\n", "\n")).text, "lines are no paragraphs"
    text = "\n\n".join([prose, *"abc", long, long])
    assert make(gopher=lines_off)(text).reason == "gopher: characters in duplicate paragraphs"


def test_ngram_shares_by_hand() -> None:
    # 11 words of 1 character; "a b" three times (6 of 11), "a b c" twice, "a b c d e" once
    assert dict(ngram_shares(["a", "b", "x", "a", "b", "c", "y", "a", "b", "c", "z"])) == {2: 6 / 11, 3: 6 / 11}
    twice = ["a", "b", "c", "d", "e", "f"]
    assert dict(ngram_shares([*twice, *twice])) == {2: 4 / 12, 3: 6 / 12, 4: 8 / 12, 5: 1, 6: 1}
    # the longer of two that are as frequent
    assert dict(ngram_shares(["a", "b", "a", "b", "cc", "dd", "cc", "dd"]))[2] == pytest.approx(8 / 12)
    # duplicates that overlap count once
    assert dict(ngram_shares(["a"] * 7))[5] == 1
    assert dict(ngram_shares([*"abcde", "z", *"abcde", "yyyy"]))[5] == pytest.approx(10 / 15)


def _naive_shares(words: list[str]) -> dict[int, float]:
    shares = {}
    total = sum(map(len, words))
    for n in range(2, 11):
        ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        counts = Counter(ngrams)
        if not any(count > 1 for count in counts.values()):
            break
        if n < 5:
            most = max(counts.values())
            longest = max(len("".join(ngram)) for ngram in counts if counts[ngram] == most)
            shares[n] = min(1, most * longest / total)
        else:
            covered = {i + j for i, ngram in enumerate(ngrams) if counts[ngram] > 1 for j in range(n)}
            shares[n] = sum(len(words[i]) for i in covered) / total
    return shares


@given(words=st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=60) | st.lists(st.sampled_from("ab"), max_size=60))
def test_ngram_shares_are_those_of_the_definition(words: list[str]) -> None:
    assert dict(ngram_shares(words)) == pytest.approx(_naive_shares(words))


PHRASE = ["eleven", "different", "words", "that", "come", "back", "once", "and", "then", "no", "more"]


@pytest.mark.parametrize(
    ("repeated", "times", "reason"),
    [
        (["averyverylongword!", "averyverylongword?"], 8, "most frequent 2-gram"),
        (PHRASE, 2, ""),
        (PHRASE, 3, "duplicate 8-grams"),
        (PHRASE, 4, "duplicate 5-grams"),
    ],
)
def test_gopher_repetition(repeated: list[str], times: int, reason: str) -> None:
    words = different(200)
    parts = [words[i * 25 : (i + 1) * 25] for i in range(8)]
    for part in parts[:times]:
        part.extend(repeated)
    outcome = make(gopher={"max_mean_word_length": None})(_text(*(word for part in parts for word in part)))
    assert outcome.reason == (reason and f"gopher: {reason}")


def test_every_ngram_has_its_threshold() -> None:
    words = _text(*different(60), *different(60)).split()
    names = [name for name in GopherConfig.model_fields if "gram_" in name]
    for name, n in zip(names, range(2, 11), strict=True):
        others: dict[str, Any] = {other: None for other in names if other != name}
        only = GopherConfig(**others)
        kind = f"most frequent {n}-gram" if n < 5 else f"duplicate {n}-grams"
        text = (
            " ".join(words) if n > 4 else " ".join(words[:60] + [w for i in range(30) for w in ("the", "of", "a", "b")])
        )
        only = only.model_copy(update={"min_mean_word_length": None})
        assert Gopher(only)(text).reason == f"gopher: {kind}"


@given(words=st.lists(st.sampled_from(["the", "of", "snow", "fell", "#", "…", "\n", "1"]), max_size=200))
def test_gopher_changes_nothing(words: list[str]) -> None:
    text = clean(" ".join(words))
    outcome = make(gopher={"min_words": 5})(text)
    assert outcome.text == text if not outcome.reason else outcome.text is None
    assert outcome.counts == {}
