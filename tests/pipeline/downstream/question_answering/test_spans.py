"""Answers to tokens and back: what is right comes back, and the best of all parts is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged
from pipeline.downstream.question_answering.spans import NOWHERE, Prediction, answers, is_found, targets, token_spans
from pipeline.downstream.question_answering.windows import Windows, cut, is_counted
from tests.pipeline.downstream.question_answering.made_up import FRAME, MadeUp, made_up

HIGH = 9.0


def logits_of(windows: Windows, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a network that is sure of its targets."""
    length = int((windows.context_at + windows.size).max()) + 1
    return tuple(HIGH * (np.arange(length) == at[:, None]) for at in (starts, ends))  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(made_up(least_tokens=1), st.data())
def test_what_is_right_comes_back(data: MadeUp, draws: st.DataObject) -> None:
    """Any answer that begins and ends with tokens, and fits: it is in a window, and its scores give its text."""
    windows = data.windows()
    first, last = np.zeros(len(data.texts), int), np.zeros(len(data.texts), int)
    for place in range(len(data.texts)):
        spans = data.offsets.row(place)
        visible = np.flatnonzero(spans[:, 1] > spans[:, 0])
        assume(visible.size)
        first[place] = draws.draw(st.sampled_from(visible.tolist()))
        near = visible[(visible >= first[place]) & (visible <= first[place] + data.overlap)]
        last[place] = draws.draw(st.sampled_from(near.tolist()))
    tokens = data.offsets.offsets[:-1]
    begin, end = data.offsets.values[tokens + first, 0], data.offsets.values[tokens + last, 1]
    wanted = [text[a:b].strip() for text, a, b in zip(data.texts, begin, end, strict=True)]
    assume(all(wanted))
    found_first, found_last = token_spans(data.offsets, begin, end)
    assert (found_first != NOWHERE).all() and (found_last >= found_first).all()
    # Tokens that are parts of one character are all of the answer, which may then be longer than what fits.
    assume((found_last - found_first <= data.overlap).all())
    starts, ends = targets(windows, found_first, found_last)
    assert is_found(windows, starts).all(), "an answer of overlap + 1 tokens is in some window"
    made = answers(windows, *logits_of(windows, starts, ends), data.offsets, data.texts)
    assert [prediction.text for prediction in made] == wanted
    for prediction, a in zip(made, begin, strict=True):
        assert prediction.best is not None and prediction.best.start >= a and prediction.best.score == 2 * HIGH


@settings(max_examples=60, deadline=None)
@given(made_up(), st.integers(0, 999), st.sampled_from([1, 2, 5]), st.sampled_from([1, 3, 20]))
def test_the_best_of_all_parts(data: MadeUp, seed: int, max_tokens: int, n_best: int) -> None:
    """By trying all of them, in all windows; and every answer is a part of its context."""
    windows = data.windows()
    random, length = np.random.default_rng(seed), int((windows.context_at + windows.size).max()) + 2
    start, end = random.normal(size=(2, len(windows), length))
    counted = is_counted(windows, data.contexts, max_tokens)
    made = answers(windows, start, end, data.offsets, data.texts, n_best, max_tokens)
    for number, prediction in enumerate(made):
        tried = []
        for place in np.flatnonzero(windows.example == number):
            at = windows.context_at[place]
            for a in np.flatnonzero(counted.row(place)):
                for b in range(a, min(a + max_tokens, windows.size[place])):
                    tokens = data.offsets.row(number)[windows.first[place] + np.array([a, b])]
                    tried.append((start[place, at + a] + end[place, at + b], (tokens[0, 0], tokens[1, 1])))
        expected = sorted(tried, key=lambda pair: -pair[0])[:n_best]
        assert prediction.scores.tolist() == pytest.approx([score for score, _ in expected])
        assert prediction.characters.tolist() == [[int(a), int(b)] for _, (a, b) in expected]
        of_context = windows.example == number
        assert prediction.null_score == pytest.approx((start[:, 0] + end[:, 0])[of_context].min())
        texts = [answer.text for answer in prediction.answers()]
        assert len(set(texts)) == len(texts) and all(text == text.strip() != "" for text in texts)
        for answer in prediction.answers():
            assert data.texts[number][answer.start : answer.start + len(answer.text)] == answer.text


def test_no_answer_is_what_all_windows_agree_on() -> None:
    """The lowest score of [CLS] counts; “no answer” is said if it is ahead by more than a threshold."""
    questions, contexts = Ragged.from_rows([[1]], np.uint32), Ragged.from_rows([np.arange(6)], np.uint32)
    offsets = Ragged.from_rows([[(place, place + 1) for place in range(6)]], np.int64)
    windows = cut(questions, contexts, FRAME, 8, 2)  # 4 tokens each
    assert windows.first.tolist() == [0, 2]
    start, end = np.zeros((2, 2, 8))
    start[:, 0], end[:, 0] = (5, 1), (5, 1.5)
    start[1, 4] = end[1, 5] = 1.0  # tokens 3 and 4
    (found,) = answers(windows, start, end, offsets, ["abcdef"])
    assert (found.text, found.null_score, found.null_odds) == ("de", 2.5, 0.5)
    assert found.above(0.5) == "de" and found.above(0.4) == ""


def test_scores_outside_of_the_context_do_not_count() -> None:
    """Neither the question nor special tokens nor padding, nor an end before its start, nor 31 tokens."""
    questions, contexts = Ragged.from_rows([[1, 2]], np.uint32), Ragged.from_rows([np.arange(40)], np.uint32)
    offsets = Ragged.from_rows([[(place, place + 1) for place in range(40)]], np.int64)
    windows = cut(questions, contexts, FRAME, 60, 2)
    start, end = np.zeros((2, 1, 60))
    start[0, [0, 1, 2, 3, 44, 50]] = end[0, [0, 1, 2, 3, 44, 50]] = 9
    start[0, 9], end[0, 8], end[0, 9 + 29], end[0, 9 + 30] = 5, 5, 1, 4
    (found,) = answers(windows, start, end, offsets, ["x" * 40])
    assert found.null_score == 18
    assert found.characters[0].tolist() == [5, 35] and found.scores[0] == 6, "the context is at 4 to 43"
    assert found.characters[1].tolist() != [5, 36]


def test_an_answer_in_characters_takes_the_tokens_that_it_touches() -> None:
    offsets = Ragged.from_rows([[(0, 3), (4, 9), (9, 10)], [], [(0, 1)]], np.int64, (2,))
    first, last = token_spans(offsets, np.array([5, 0, -1]), np.array([10, 3, 0]))
    assert (first.tolist(), last.tolist()) == ([1, NOWHERE, NOWHERE], [2, NOWHERE, NOWHERE])
    first, last = token_spans(offsets, np.array([3, 0, 7]), np.array([4, 1, 9]))
    assert (first.tolist(), last.tolist()) == ([NOWHERE] * 3, [NOWHERE] * 3), "a space, and what is beyond the tokens"


def test_an_answer_that_is_nowhere_points_at_the_first_token() -> None:
    contexts = Ragged.from_rows([np.arange(12)], np.uint32)
    windows = cut(Ragged.from_rows([[1]], np.uint32), contexts, FRAME, 9, 2)
    assert windows.first.tolist() == [0, 3, 6, 9]
    starts, ends = targets(windows, np.array([4]), np.array([7]))
    assert (starts.tolist(), ends.tolist()) == ([0, 4, 0, 0], [0, 7, 0, 0])
    starts, _ = targets(windows, np.array([1]), np.array([6]))
    assert starts.tolist() == [0, 0, 0, 0] and is_found(windows, starts).tolist() == [False], (
        "six tokens, windows of five"
    )
    starts, ends = targets(windows, np.array([NOWHERE]), np.array([NOWHERE]))
    assert starts.tolist() == ends.tolist() == [0, 0, 0, 0]


def test_a_context_without_text_has_no_answer() -> None:
    questions, contexts = Ragged.from_rows([[1]], np.uint32), Ragged.from_rows([[]], np.uint32)
    windows = cut(questions, contexts, FRAME, 9, 2)
    (found,) = answers(windows, np.ones((1, 5)), np.ones((1, 5)), Ragged.from_rows([[]], np.int64, (2,)), [" "])
    assert (found.text, found.best, found.null_odds, found.above(1e9)) == ("", None, math.inf, "")
    blank = Prediction(" a", np.array([2.0, 1.0]), np.array([[0, 1], [0, 2]]), 0.0)
    assert blank.text == "a" and blank.best is not None and blank.best.start == 1, "a space is no answer"


@pytest.mark.parametrize(
    ("context", "end", "answer"),
    [
        ("a cafe\u0301 here", 6, "cafe\u0301"),
        ("a \u0915\u0939\u093e\u0901 b", 4, "\u0915\u0939\u093e\u0901"),
        ("a cafe.", 6, "cafe"),
    ],
)
def test_an_answer_has_the_marks_of_its_last_character(context: str, end: int, answer: str) -> None:
    """Though tokens of a tokenizer that strips accents end before them."""
    assert Prediction(context, np.array([1.0]), np.array([[2, end]]), 0.0).text == answer


def test_scores_that_are_no_numbers_are_refused() -> None:
    questions, contexts = Ragged.from_rows([[1]], np.uint32), Ragged.from_rows([[5, 6]], np.uint32)
    offsets = Ragged.from_rows([[(0, 1), (1, 2)]], np.int64)
    windows = cut(questions, contexts, FRAME, 9, 2)
    bad = np.zeros((1, 6))
    bad[0, 3] = np.nan
    with pytest.raises(UserError, match="1 of 1 windows have end scores that are not finite: the network diverged"):
        answers(windows, np.zeros((1, 6)), bad, offsets, ["ab"])
    masked = np.full((1, 6), -np.inf)
    masked[0, 3] = 0
    assert answers(windows, masked, masked, offsets, ["ab"])[0].text == "a", "what is masked may be −∞"
