"""C4's rules: which lines and pages stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from data_prep.errors import UserError
from data_prep.text.rules.config import Outcome
from data_prep.tokens.cleaning import clean
from tests.data_prep.rule_texts import LINE, PAGE, make

THREE = f"{LINE} {LINE} {LINE}"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("This one ends with a dot.", True),
        ("Does this one end with one?", True),
        ("This one does so too!", True),
        ('He said that it was "over"', True),
        ("This one ends with a colon:", False),
        ("This one has no end mark", False),
        ("This one trails off into dots...", False),
        ("Only four words here.", False),
        ("There are five words here.", True),
        ("Please enable JavaScript in your browser.", False),
        ("By going on you accept our Terms of Use.", False),
        ("Here you find our privacy policy again.", False),
        ("This is our cookie policy for you.", False),
        ("This site uses cookies to know you.", False),
        ("Read about our use of cookies here.", False),
        ("We only use cookies that are needed.", False),
        (f"A word that is too long {'x' * 1001} stands here.", False),
        (f"A word that is long enough {'x' * 1000} stands here.", True),
    ],
)
def test_c4_lines(line: str, kept: bool) -> None:
    outcome = make(c4={"min_sentences": 1})(f"{LINE}\n\n{line}\n{LINE}")
    assert outcome.text == "\n".join([LINE, line, LINE] if kept else [LINE, LINE])
    assert sum(outcome.counts.values()) == (not kept)


@pytest.mark.parametrize(("characters", "kept"), [(1000, True), (1001, False)])
def test_c4_a_line_of_one_word_has_the_same_limit(characters: int, kept: bool) -> None:
    word = "x" * (characters - 1) + "."
    rules = make(c4={"min_sentences": 1, "min_words_per_line": 1})
    assert rules(f"{LINE}\n{word}").text == (f"{LINE}\n{word}" if kept else LINE)


def test_c4_counts_name_the_rule() -> None:
    text = "No end\nToo short.\nNeeds javascript to run at all.\nThis site uses cookies to know you.\nAlso none\n"
    text += f"What {'x' * 1001} a very long word.\n" + THREE
    assert make(c4={})(text).counts == {
        "c4: line without an end mark": 2,
        "c4: line of fewer than 5 words": 1,
        "c4: line with javascript": 1,
        "c4: line about a policy": 1,
        "c4: line with a word of more than 1000 characters": 1,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{LINE}\n{LINE}\n{LINE}", ""),
        (f"{LINE}\n{LINE}", "c4: fewer than 3 sentences"),
        (THREE, ""),
        (f"{THREE}\nno end {{", "c4: curly bracket"),
        (f"{THREE}\nno end }}", ""),
        (f"{THREE}\nLorem Ipsum dolor", "c4: lorem ipsum"),
        ("", "c4: fewer than 3 sentences"),
    ],
)
def test_c4_pages(text: str, reason: str) -> None:
    outcome = make(c4={"min_sentences": 3})(text)
    assert outcome.reason == reason
    assert (outcome.text is None) == bool(reason)


def test_c4_citation_marks_go() -> None:
    outcome = make(c4={"min_sentences": 1})(
        "Snow [1] fell on it[citation needed] again[23][].\nIt is [edit] white [a] now[[4]]."
    )
    assert outcome.text == "Snow fell on it again.\nIt is white [a] now."
    assert outcome.counts == {"c4: citation mark": 7}


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("He drank grog in the evening.", True),
        ("He drank GROG, in the evening.", True),
        ("He was groggy in the evening.", False),
        ("He drank dark  rum".replace("  ", " ") + " in the evening.", True),
        ("He drank dark rumour in the evening.", False),
        ("He was a c++ man at heart.", True),
    ],
)
def test_c4_bad_words(tmp_path: Path, text: str, bad: bool) -> None:
    path = tmp_path / "words"
    path.write_text("Grog\n\n dark rum \nc++\n", encoding="utf-8")
    rules = make(c4={"min_sentences": 1, "bad_words": str(path)})
    assert rules(text).reason == ("c4: bad word" if bad else "")


def test_c4_a_bad_word_that_ends_a_line_is_one(tmp_path: Path) -> None:
    """The published expression asks for a character on both sides of it, and misses such words."""
    path = tmp_path / "words"
    path.write_text("grog\n", encoding="utf-8")
    rules = make(c4={"min_sentences": 1, "end_marks": [], "bad_words": str(path)})
    assert rules("What he liked most was grog\nand the sea in the evening").reason == "c4: bad word"
    assert rules("grog was what he liked most").reason == "c4: bad word"


def test_c4_a_citation_mark_behind_the_last_word_does_not_cost_the_line() -> None:
    """The published code strips lines before it takes out the mark, and then finds a space where they should end."""
    assert (
        make(c4={"min_sentences": 1})(f"Snow fell on it again. [1]\n{LINE}").text == f"Snow fell on it again.\n{LINE}"
    )


def test_c4_a_line_that_goes_can_reject_the_page() -> None:
    """As in the paper; the published code looks at lines that stay alone."""
    assert make(c4={})(f"{THREE}\nfunction() {{ javascript }}").reason == "c4: curly bracket"
    assert make(c4={})(f"{THREE}\nlorem ipsum").reason == "c4: lorem ipsum"


def test_c4_bad_words_inside_characters(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("坏\n", encoding="utf-8")
    c4 = {"min_words_per_line": 1, "min_sentences": 1, "end_marks": ["。"], "bad_words": str(path)}
    assert make("zh", c4=c4)("这是坏话。").reason == "c4: bad word"
    assert make("zh", c4=c4)("这是好话。").text == "这是好话。"


@pytest.mark.parametrize("content", [None, b"", b"\xff\n"])
def test_c4_list_of_bad_words_must_be_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="list of bad words"):
        make(c4={"bad_words": str(path)})


def test_c4_rules_can_be_switched_off() -> None:
    off = {
        "end_marks": [],
        "min_words_per_line": 0,
        "max_word_length": None,
        "min_sentences": 0,
        "citations": False,
        "javascript": False,
        "policies": False,
        "lorem_ipsum": False,
        "curly_brackets": False,
    }
    text = f"lorem ipsum {{ javascript [1] use cookies...\nx\n{'x' * 2000}"
    assert make(c4=off)(text) == Outcome(text)


@given(text=PAGE)
def test_c4_accounts_for_every_line_and_is_idempotent(text: str) -> None:
    rules = make(c4={"citations": False, "min_sentences": 0})
    outcome = rules(clean(text))
    if outcome.text is not None:
        lines = [line for line in clean(text).split("\n") if line]
        assert len(lines) == len(outcome.text.split("\n")) + sum(outcome.counts.values())
    rules = make(c4={"min_sentences": 1})
    outcome = rules(clean(text))
    if outcome.text is not None:
        assert rules(outcome.text) == Outcome(outcome.text)
        assert clean(outcome.text) == outcome.text
