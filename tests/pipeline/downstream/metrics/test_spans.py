"""F1 of spans of time, by hand."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from pipeline.downstream import metrics

TRUTH = [["1.000 2.000", "4.000 5.000"], ["0.000 1.000"], [], [], ["0.000 1.000"]]


def test_spans_are_compared_by_what_they_share_of_time() -> None:
    predicted = ["1.500 2.500", "0.000 0.500", "", "1.000 2.000", None]
    scores = metrics.scores(["span-f1"], "answer", TRUTH, predicted)
    assert scores["span-f1"] == pytest.approx(100 * (0.5 + 2 / 3 + 1 + 0 + 0) / 5)
    assert scores["span-accuracy"] == 100 * 2 / 5  # a third of what both cover is too little, half is enough
    best = metrics.scores(["span-f1"], "answer", TRUTH, ["4.000 5.000", "2.000 3.000", "", "", ""])
    assert best["span-f1"] == best["span-accuracy"] == 60
    with pytest.raises(UserError, match=r"'a word' is no span of time; expected start and end in seconds"):
        metrics.scores(["span-f1"], "answer", [["0.0 1.0"]], ["a word"])
