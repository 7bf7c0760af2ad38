"""Decontamination: texts that share words with evaluation texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.text.rules.config import Outcome
from data_prep.text.rules.ngrams import SharedNgrams
from data_prep.text.rules.rules import ngrams_of
from tests.data_prep.rule_texts import QUESTION, make, write_jsonl


def test_hashes_are_the_same_everywhere() -> None:
    hashes = ngrams_of(["one two three", "Two, three FOUR!"], 2)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [444245091633210196, 10993520877187551212, 13764245666506251179]


@pytest.mark.parametrize(
    ("text", "clean_of_it"),
    [
        (f"Quiz: {QUESTION} The Seine.", False),
        ("quiz - WHICH river flows, through the 'capital' of the country that lies west... of Gerbils", False),
        ("river flows through the capital of the country that lies west of Gerbils and north of", True),  # 12 words
        ("river flows through the capital of the country that lies west of Germany", False),  # 13 words
        ("Eight words are enough to be found here", False),
        ("They said: eight words are enough to be found here, I think", False),
        ("Eight words are enough to be found", True),
        ("Seven words of it are not enough", True),
        ("", True),
    ],
)
def test_decontamination(tmp_path: Path, text: str, clean_of_it: bool) -> None:
    evaluation = write_jsonl(
        tmp_path / "quiz.jsonl",
        *(QUESTION, "Eight words are enough to be found here.", "Seven words of it are not enough"),
        field="question",
    )
    outcome = make(decontamination={"evaluation": [evaluation]})(text)
    reason = "decontamination: shares words with an evaluation text"
    assert outcome == (Outcome(text) if clean_of_it else Outcome(None, reason))


def test_decontamination_reads_text_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("one two three", encoding="utf-8")
    (tmp_path / "b.txt").write_text("four five six", encoding="utf-8")
    rules = make(decontamination={"evaluation": [{"path": str(tmp_path)}], "n": 3})
    assert rules("one two three").text is None
    assert rules("four, five, six").text is None
    assert rules("three four five").text is not None


def test_an_evaluation_text_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        make(decontamination={"evaluation": [{"path": str(tmp_path / "none.txt")}]})
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\nnot json\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.jsonl line 2: .*mend this evaluation text"):
        make(decontamination={"evaluation": [{"path": str(path)}]})


WORDS = st.lists(st.sampled_from("abc"), max_size=14)


def _ngrams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@given(evaluation=st.lists(WORDS, max_size=3), text=WORDS, n=st.integers(1, 10))
def test_texts_share_ngrams_by_the_definition(evaluation: list[list[str]], text: list[str], n: int) -> None:
    wanted: set[tuple[str, ...]] = set()
    for words in evaluation:
        wanted |= _ngrams(words, n) if len(words) >= n else {tuple(words)} if len(words) >= 8 else set()
    shared = any(_ngrams(text, len(ngram)) & wanted for ngram in wanted)
    texts = [" ".join(words) for words in evaluation]
    assert (SharedNgrams(texts, n)(" ".join(text)).text is None) == shared
    hashes = ngrams_of(texts, n)
    assert len(hashes) == len(wanted)
    assert np.all(hashes[1:] > hashes[:-1])
