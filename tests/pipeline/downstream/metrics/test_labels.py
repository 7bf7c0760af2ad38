"""Accuracy, F1, Matthews: values by hand, scikit-learn's, and what has no obvious value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from data_prep.errors import UserError
from pipeline.downstream.metrics import METRICS, measured, problems, scores

ALL = ["accuracy", "macro-f1", "matthews"]
LABELS = ["b", "a", "c"]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30)


def test_values_by_hand() -> None:
    """3 of 5 are right; of the positive ones 2 of 3 are found, and 2 of 3 found are right."""
    truth, predicted = [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]
    values = scores(["accuracy", "f1", "matthews"], "class", truth, predicted, [0, 1])
    assert values["accuracy"] == pytest.approx(60)
    assert values["f1"] == pytest.approx(100 * 2 / 3)
    assert values["matthews"] == pytest.approx(100 * (2 * 1 - 1 * 1) / 6)


def test_the_second_label_is_the_positive_one() -> None:
    truth, predicted = ["yes", "no", "no"], ["yes", "yes", "no"]
    assert scores(["f1"], "class", truth, predicted, ["no", "yes"])["f1"] == pytest.approx(100 * 2 / 3)
    assert scores(["f1"], "class", truth, predicted, ["yes", "no"])["f1"] == pytest.approx(100 * 2 / 3)
    assert scores(["f1"], "class", truth, ["no"] * 3, ["no", "yes"])["f1"] == 0
    assert scores(["f1"], "class", truth, ["no"] * 3, ["yes", "no"])["f1"] == pytest.approx(80)


def test_labels_that_nobody_has_do_not_count_for_macro_f1() -> None:
    assert scores(["macro-f1"], "class", ["a", "b"], ["a", "b"], LABELS)["macro-f1"] == 100
    assert scores(["macro-f1"], "class", ["a", "b"], ["a", "c"], LABELS)["macro-f1"] == pytest.approx(100 / 3)


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=30, deadline=None)
@given(pairs)
def test_equal_to_scikit_learn(rows: list[tuple[str, str]]) -> None:
    truth, predicted = map(list, zip(*rows, strict=True))
    values = scores(ALL, "class", truth, predicted)
    assert values["accuracy"] == pytest.approx(100 * sklearn.accuracy_score(truth, predicted))
    wanted = sklearn.f1_score(truth, predicted, average="macro", zero_division=0)  # type: ignore[arg-type]
    assert values["macro-f1"] == pytest.approx(100 * float(wanted))
    assert values["matthews"] == pytest.approx(100 * sklearn.matthews_corrcoef(truth, predicted), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(pairs, st.integers(0, 99))
def test_weights_are_rows_that_are_drawn_again(rows: list[tuple[str, str]], seed: int) -> None:
    """So a bootstrap asks the metric itself."""
    weights = np.random.default_rng(seed).multinomial(len(rows), [1 / len(rows)] * len(rows), 3)
    truth, predicted = map(list, zip(*rows, strict=True))
    for name in ALL:
        drawn = measured(name, "class", truth, predicted, LABELS).of(weights)[name]
        for value, counts in zip(drawn, weights, strict=True):
            again = [pair for pair, count in zip(rows, counts, strict=True) for _ in range(count)]
            wanted = scores([name], "class", *map(list, zip(*again, strict=True)), labels=LABELS)[name]
            assert value == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [1, 1, 1]), ([1, 1, 1], [0, 0, 0])]
)
def test_constant_predictions_and_one_class(truth: list[int], predicted: list[int]) -> None:
    values = scores(["accuracy", "f1", "matthews"], "class", truth, predicted, [0, 1])
    assert values["matthews"] == 0, "no correlation"
    assert values["accuracy"] == pytest.approx(100 * np.mean(np.equal(truth, predicted)))
    assert values["f1"] == pytest.approx(100 * float(sklearn.f1_score(truth, predicted, zero_division=0)))  # type: ignore[arg-type]


def test_what_is_no_label_is_wrong_and_of_two_labels_the_other() -> None:
    assert scores(["f1"], "class", [0, 1, 1], [None, 1, None], [0, 1])["f1"] == pytest.approx(50)
    same = scores(["f1", "matthews"], "class", [0, 1, 1], [1, 1, 0], [0, 1])
    assert scores(["f1", "matthews"], "class", [0, 1, 1], [None, 1, None], [0, 1]) == same
    three = scores(ALL, "class", [0, 1, 2, 2], [0, None, 2, None], [0, 1, 2])
    other = sklearn.matthews_corrcoef([0, 1, 2, 2], [0, 3, 2, 3])
    assert three["accuracy"] == 50 and three["matthews"] == pytest.approx(100 * other)


def test_words_of_sentences_count_one_by_one() -> None:
    truth, predicted = [["N", "V"], ["N", "N", "V", "P"]], [["N", "V"], ["V", "N", "N", "P"]]
    assert scores(["accuracy"], "tags", truth, predicted)["accuracy"] == pytest.approx(100 * 4 / 6)
    with pytest.raises(ValueError, match="row 1 has 4 words and 3 predicted tags"):
        scores(["accuracy"], "tags", truth, [["N", "V"], ["N"] * 3])


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="predicted of row 1 is 'd'"):
        scores(["accuracy"], "class", ["a", "b"], ["a", "d"], LABELS)
    with pytest.raises(ValueError, match="2 rows and 1 predictions"):
        scores(["accuracy"], "class", ["a", "b"], ["a"])
    with pytest.raises(ValueError, match="at least one"):
        scores(["accuracy"], "class", [], [])
    with pytest.raises(UserError, match="f1 needs two labels, found 3; use macro-f1"):
        scores(["f1"], "class", LABELS, LABELS)


def test_a_metric_of_another_head_or_name_is_refused() -> None:
    assert problems(["accuracy", "f1"], "class") == []
    assert problems(["pearson"], "class")[0].startswith("the metric 'pearson' is not for head class; allowed: accuracy")
    assert "did you mean matthews?" in problems(["mathews"], "class")[0]
    with pytest.raises(UserError, match="not for head score"):
        scores(["accuracy"], "score", [1.0], [1.0])


def test_every_metric_is_there() -> None:
    import importlib

    examples: dict[str, tuple[list[Any], list[Any]]] = {
        "class": (["a", "b"], ["a", "b"]), "choice": ([0, 1], [0, 1]), "score": ([1, 2], [1, 2]),
        "tags": ([["B-A"]], [["B-A"]]), "answer": ([["1.0 2.0"]], ["1.0 2.0"]), "text": ([["a b c d"]], ["a b c d"]),
    }  # fmt: skip
    for name, entry in METRICS.items():
        assert callable(getattr(importlib.import_module(entry.module), entry.function))
        for head in entry.heads:
            first = next(iter(scores([name], head, *examples[head]).values()))
            assert first == pytest.approx(100), name
