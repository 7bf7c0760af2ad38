"""Answers to questions, by the rules of SQuAD 1.1, SQuAD 2.0 and CMRC 2018: what their scripts give, case by case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktLanguageVars, PunktSentenceTokenizer

from data_prep.errors import UserError
from pipeline.downstream.metrics import scores
from pipeline.downstream.metrics.chinese_answers import longest_common_substring, segments
from pipeline.downstream.metrics.squad import Threshold, best_threshold, normalised, raw_scores


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        ("The  Cat, the-hat!", "cat thehat"),  # punctuation goes before articles: “the-hat” is one word
        ("A.B. an   apple\n", "ab apple"),
        ("U.S. $3,000", "us 3000"),
        ("theatre of another", "theatre of another"),  # only whole words are articles
        ("“quoted” – dash", "“quoted” – dash"),  # no ASCII, no punctuation
        ("a the an", ""),
        ("CAFÉ\u00a0the\tbar", "café bar"),
    ],
)
def test_what_is_compared(answer: str, compared: str) -> None:
    assert normalised(answer) == compared


@pytest.mark.parametrize(
    ("golds", "answer", "f1", "exact"),
    [
        (["the Denver Broncos"], "Denver broncos.", 100, 100),
        (["Denver Broncos"], "Broncos of Denver", 80, 0),  # no order
        (["Denver"], "Broncos", 0, 0),
        (["cat cat dog"], "cat dog dog", 200 / 3, 0),  # repeats count
        (["x", "Denver Broncos", "Broncos"], "Broncos", 100, 100),  # the best right answer
        (["gold of Denver", "gold"], "Denver", 50, 0),
        (["Denver"], "", 0, 0),
    ],
)
def test_cases_of_both_squads(golds: list[str], answer: str, f1: float, exact: float) -> None:
    for metric in ("squad", "squad-v2"):
        values = scores([metric], "answer", [golds], [answer])
        assert (values["f1"], values["exact"]) == (pytest.approx(f1), pytest.approx(exact)), metric


def test_answers_without_a_word_differ_between_the_scripts() -> None:
    """In 1.1 “the” matches “a” and shares no word with it; in 2.0 a right answer without a word is none."""
    assert scores(["squad"], "answer", [["the"]], ["a"]) == {"f1": 0, "exact": 100}
    assert raw_scores([["the"]], ["a"]).tolist() == [[1, 1]], "“the” is left out, so no answer is right, as “a” is"
    assert raw_scores([["the", "cat"]], [""]).tolist() == [[0, 0]]


def test_questions_without_an_answer() -> None:
    values = scores(["squad-v2"], "answer", [[], [], ["cat"], ["dog"]], ["", "cat", "cat", ""])
    assert values == {
        "f1": 50, "exact": 50, "answerable-f1": 50, "answerable-exact": 50, "unanswerable-f1": 50,
        "unanswerable-exact": 50,
    }  # fmt: skip
    assert scores(["squad-v2"], "answer", [["cat"]], ["cat"])["unanswerable-f1"] == 0
    with pytest.raises(UserError, match="1 of 2 questions have no answer, the first in row 1; use the metric"):
        scores(["squad"], "answer", [["cat"], []], ["cat", ""])


def test_a_missing_prediction_is_wrong_or_refused() -> None:
    assert scores(["squad"], "answer", [["cat"], ["dog"]], ["cat", None]) == {"f1": 50, "exact": 50}
    assert scores(["cmrc"], "answer", [["cat"], ["dog"]], ["cat", None]) == {"f1": 50, "exact": 50}
    with pytest.raises(ValueError, match="1 of 2 questions have no prediction, the first is row 1"):
        scores(["squad-v2"], "answer", [["cat"], ["dog"]], ["cat", None])


def test_the_threshold_of_no_answer() -> None:
    """By rising null score: 2 have no answer; a right one +1, a wrong answer to one without −1, a half +0.5."""
    null_scores, answerable = [3.0, -1.0, 0.5, 0.7], [False, True, False, True]
    found = best_threshold([0, 1, 0, 0.5], ["x", "y", "z", "w"], null_scores, answerable)
    assert found == Threshold(75.0, -1.0), "2 + 1, then 2, 2.5, 1.5 of 4"
    answers = ["" if null > found.threshold else text for text, null in zip("xyzw", null_scores, strict=True)]
    assert answers == ["", "y", "", ""], "above the threshold, not at it"


def test_thresholds_at_the_ends() -> None:
    assert best_threshold([0.0, 0.0], ["x", "y"], [1.0, 2.0], [True, False]) == Threshold(50.0, 0.0)
    assert best_threshold([1.0, 1.0], ["x", "y"], [1.0, 2.0], [True, True]) == Threshold(100.0, 2.0)
    tied = best_threshold([1.0, 0.0], ["x", "y"], [1.0, 1.0], [True, False])
    assert tied == Threshold(100.0, 1.0), "between two of one null score, as the script does"
    silent = best_threshold([1.0, 0.0], ["x", ""], [1.0, 0.0], [True, False])
    assert silent == Threshold(100.0, 1.0), "“no answer” where there is none costs nothing"
    with pytest.raises(UserError, match="1 scores of “no answer” are not finite"):
        best_threshold([1.0], ["x"], [float("nan")], [True])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=12, unique_by=lambda t: t[2]
    )
)
def test_the_best_threshold_is_reached(rows: list[tuple[float, bool, int]]) -> None:
    """By questions whose null scores differ: said at the threshold found, and at none other better."""

    def at(threshold: float) -> float:
        kept = [(score if has else 0.0) if null <= threshold else float(not has) for score, has, null in rows]
        return 100 * float(np.mean(kept))

    scores_, has, null = (list(column) for column in zip(*rows, strict=True))
    found = best_threshold(scores_, ["x"] * len(rows), null, has)
    tried = [at(threshold) for threshold in (-9, *null)]
    assert found.score == pytest.approx(max(tried))
    if found.score > 100 * np.mean(np.logical_not(has)) + 1e-9:
        assert at(found.threshold) == pytest.approx(found.score)


# -- Chinese ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("北京大学", ["北", "京", "大", "学"]),
        ("在 New York 市", ["在", "new", "york", "市"]),
        ("《三国》，第3.5版。", ["三", "国", "第", "3.5", "版"]),
        ("isn't it?", ["is", "n't", "it", "?"]),  # words of the Penn Treebank; “?” of ASCII is not in the list
        ("a-b_c", ["abc"]),  # what is taken out leaves no gap
        ("天…天", ["天", "…", "天"]),  # a single ellipsis stays, as in the script
        ("㐀", ["㐀"]),  # outside of the script's range of characters: a word
        (" “” ", []),
    ],
)
def test_segments(text: str, pieces: list[str]) -> None:
    assert segments(text) == pieces


@settings(max_examples=200, deadline=None)
@given(st.text("ab1.?!'\") ", max_size=12))
def test_segments_are_the_scripts_but_for_full_stops_inside(text: str) -> None:
    """Punkt decides by its model where it has a choice; where it has none, any model of it gives the same."""
    ends = {match[0][0] for match in PunktLanguageVars().period_context_re().finditer(text)}
    if not ends or not ("." in ends or '"' in text or "''" in text):
        sentences = PunktSentenceTokenizer().tokenize(text)
        words = [word for each in sentences for word in NLTKWordTokenizer().tokenize(each)]
        assert segments(f"一{text}一") == ["一", *words, "一"]


def test_a_full_stop_inside_stays_at_its_word() -> None:
    assert segments("一a. b.") == ["一", "a.", "b", "."], "the script has a, ., b, ."
    assert segments("一a? b.") == ["一", "a", "?", "b", "."]


@pytest.mark.parametrize(
    ("golds", "answer", "f1", "exact"),
    [
        (["1998年"], "1998年。", 100, 100),
        (["北京大学"], "大学北京", 50, 0),  # a run: order counts
        (["在北京大学"], "北京大学", 100 * 2 * 0.8 / 1.8, 0),
        (["x", "北京"], "北京", 100, 100),
        (["NEW York"], "new york", 100, 100),
        (["new york"], "newyork", 0, 0),  # spaces inside stay
        (["，。"], "", 0, 100),  # both without a piece: no F1, though they match
        (["北京"], "", 0, 0),
        (["北京"], "上海", 0, 0),
    ],
)
def test_cases_of_cmrc(golds: list[str], answer: str, f1: float, exact: float) -> None:
    assert scores(["cmrc"], "answer", [golds], [answer]) == {"f1": pytest.approx(f1), "exact": pytest.approx(exact)}


@settings(max_examples=50, deadline=None)
@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_substring(first: str, second: str) -> None:
    common = [len(first[a:b]) for a in range(9) for b in range(a, 10) if first[a:b] in second]
    assert longest_common_substring(first, second) == max(common)


def test_a_question_without_right_answers_is_refused() -> None:
    with pytest.raises(UserError, match="1 of 2 questions have no answer, the first in row 1; use the metric squad-v2"):
        scores(["cmrc"], "answer", [["a"], []], ["a", "b"])
