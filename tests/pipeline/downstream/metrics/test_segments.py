"""Metrics of labels of positions in time: F1 of segments by hand, the others against scikit-learn."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pipeline.downstream import metrics
from pipeline.downstream.metrics.segments import runs, segment_f1

U = None  # not known


def test_a_segment_is_right_if_it_shares_half_of_what_both_cover() -> None:
    truth = [[*"aaaabbbb"], [*"cc"]]
    assert segment_f1(truth, [[*"aabbbbbb"], [*"cc"]]).scores()["segment-f1"] == 100
    assert segment_f1(truth, [[*"abbbbbbb"], [*"cc"]]).scores() == {
        "segment-f1": pytest.approx(100 * 2 / 3),  # b shares 4 of 7 positions, a 1 of 4
        "segment-precision": pytest.approx(100 * 2 / 3),
        "segment-recall": pytest.approx(100 * 2 / 3),
    }
    broken = segment_f1(truth, [[*"aababbbb"], [*"cc"]]).scores()  # a shares 2 of 4, then a and b are left over
    assert broken["segment-precision"] == pytest.approx(100 * 3 / 5) and broken["segment-recall"] == 100
    assert segment_f1([["a", "a", "a", "a"]], [["a", "a", "b", "a"]]).scores()["segment-recall"] == 100
    assert segment_f1([[*"aaaa"]], [[*"aaab"]], ["a"]).scores()["segment-precision"] == 100  # b is no segment


def test_what_is_not_known_is_not_scored() -> None:
    truth, predicted = [["a", "a", U, U, "a", "b"]], [["a", "b", "b", "a", "a", "b"]]
    assert runs(truth[0]) == [(0, 2, "a"), (4, 5, "a"), (5, 6, "b")]
    scores = metrics.scores(["accuracy", "macro-f1", "segment-f1"], "tags", truth, predicted)
    assert scores["accuracy"] == 75 and scores["macro-f1"] == pytest.approx(100 * (0.8 + 2 / 3) / 2)
    assert scores["segment-recall"] == 100 and scores["segment-precision"] == 75  # a, b | a, b: the first b is wrong


def test_macro_f1_of_positions_is_that_of_all_rows_together() -> None:
    random = np.random.default_rng(0)
    truth, predicted = ([random.choice([*"abcd"], size=n).tolist() for n in (5, 40, 9)] for _ in range(2))
    together = [[*chain.from_iterable(rows)] for rows in (truth, predicted)]
    expected = 100 * f1_score(*together, average="macro")
    assert metrics.scores(["macro-f1"], "tags", truth, predicted)["macro-f1"] == pytest.approx(expected)
    resampled = metrics.measured("macro-f1", "tags", truth, predicted).of(np.array([2.0, 0.0, 1.0]))["macro-f1"]
    twice = [[*rows[0], *rows[0], *rows[2]] for rows in (truth, predicted)]
    assert resampled == pytest.approx(100 * f1_score(*twice, average="macro"))
