"""Runs beside each other: what is told apart, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_prep.errors import UserError
from pipeline.downstream.compared_predictions import compare
from pipeline.downstream.predictions_file import Part, PredictedTask
from tests.pipeline.predicted import TASK, part, predictions, seeds


def test_what_differs_beyond_noise() -> None:
    made = compare(
        {"old": predictions(part(0.70)), "new": predictions(part(0.85, draw=2)), "as-old": predictions(part(0.71))}
    )
    assert [(line.metric, line.run, round(line.score, 2)) for line in made.lines[:3]] == [
        ("accuracy", "old", 70.0), ("accuracy", "new", 85.0), ("accuracy", "as-old", 71.0)
    ]  # fmt: skip
    assert [line.is_significant for line in made.lines] == [False, True, False, False, False, False]
    assert made.verdict == (
        "Beyond noise: on reviews (test), new is better than old by 15.00 points of accuracy (p < 0.001). No "
        "significant difference from old: as-old on reviews (test)."
    )
    *cells, interval, p = made.table.rows[1][3:]
    assert (cells, p) == (["85.00", "**+15.00**"], "< 0.001")
    assert "differences from old; p-values by McNemar's test, with Holm's correction for 2" in made.about
    low, high = map(float, interval.split(" … "))
    assert 8 < low < 15 < high < 22


def test_a_run_that_is_worse_is_called_so() -> None:
    made = compare({"a": predictions(part(0.9)), "b": predictions(part(0.7, draw=2))})
    assert "b is worse than a by 20.00 points" in made.verdict
    alike = compare({"a": seeds([0.8]), "b": seeds([0.8])})
    assert alike.verdict == "No significant difference from a: reviews (test)."


def test_seeds_are_averaged_and_bootstrapped() -> None:
    made = compare({"a": seeds([0.70, 0.72]), "b": seeds([0.90, 0.92, 0.94])})
    first, second = made.lines[:2]
    assert (first.seeds, second.seeds, second.test) == (2, 3, "a paired bootstrap")
    assert first.spread == pytest.approx(2**0.5) and second.spread == pytest.approx(2)
    assert second.difference is not None and second.difference.value == pytest.approx(21)
    assert second.is_significant and made.table.rows[0][3] == "71.00 ± 1.41"
    unsure = compare({"a": seeds([0.70, 0.95]), "b": seeds([0.90, 0.92, 0.94])})
    assert not unsure.lines[1].is_significant, "two seeds that differ by 25 points"


def test_the_order_of_rows_does_not_matter() -> None:
    ordered = part(0.8, draw=5)
    back = replace(ordered, ids=ordered.ids[::-1], truth=ordered.truth[::-1], predicted=ordered.predicted[::-1])
    made = compare({"a": predictions(ordered), "b": predictions(back)})
    assert made.lines[1].difference is not None and made.lines[1].difference.value == 0 and made.lines[1].p == 1


def test_other_rows_are_refused_with_their_number() -> None:
    other = part(0.8, ids=[f"r{row + 12}" for row in range(400)])
    with pytest.raises(UserError, match=r"seed 0, was not tested on the same rows of reviews \(test\) as a: 12 of 400"):
        compare({"a": predictions(part(0.8)), "b": predictions(other)})
    fewer = part(0.8, rows=390)
    with pytest.raises(UserError, match="10 of 400 rows are missing and 0 are new; test both on the same rows"):
        compare({"a": predictions(part(0.8)), "b": predictions(fewer)})
    truth = ["good"] * 7 + list(part(0.8).truth[7:])
    with pytest.raises(UserError, match="4 of 400 have a different truth"):
        compare({"a": predictions(part(0.8)), "b": predictions(part(0.8, truth=truth))})


def test_seeds_of_one_run_need_the_same_rows_too() -> None:
    with pytest.raises(UserError, match="a, seed 1, was not tested on the same rows"):
        compare({"a": predictions(part(0.8), part(0.8, seed=1, rows=399)), "b": predictions(part(0.8))})


def test_other_tasks_are_refused() -> None:
    other = PredictedTask("class", ("matthews", "accuracy"), TASK.labels)
    with pytest.raises(UserError, match=r"reviews \(test\) is judged by matthews in b and by accuracy in a"):
        compare({"a": predictions(part(0.8)), "b": predictions(part(0.8), task=other)})
    swapped = PredictedTask("class", TASK.metrics, ("good", "bad"))
    with pytest.raises(UserError, match="has different labels in b and a"):
        compare({"a": predictions(part(0.8)), "b": predictions(part(0.8), task=swapped)})
    with pytest.raises(UserError, match=r"have no task in common. a has predictions for reviews \(test\)"):
        compare({"a": predictions(part(0.8)), "b": predictions(part(0.8, task="films"))})
    with pytest.raises(UserError, match="needs at least two runs"):
        compare({"a": predictions(part(0.8))})


def test_what_only_one_has_is_said_and_languages_are_apart() -> None:
    both = [part(0.8), part(0.7, language="de"), part(0.6, split="validation")]
    made = compare({"a": predictions(*both), "b": predictions(*both[:2])})
    assert dict.fromkeys(line.task for line in made.lines) == {"reviews (test)": None, "reviews (de, test)": None}
    assert made.left_out == ["a has predictions for reviews (validation), but not all runs do."]


def test_metrics_that_only_one_has_are_left_out() -> None:
    fewer = PredictedTask("class", ("accuracy",), TASK.labels)
    made = compare({"a": predictions(part(0.8)), "b": predictions(part(0.8), task=fewer)})
    assert {line.metric for line in made.lines} == {"accuracy"}


def test_answers_and_entities_are_compared_by_their_own_rules() -> None:
    ids = [str(row) for row in range(60)]
    golds, tags = [[f"the answer {row}", "x"] for row in ids], [["B-A", "I-A", "O"] for _ in ids]
    tasks = {"qa": PredictedTask("answer", ("squad",)), "ner": PredictedTask("tags", ("entity-f1",))}

    def run(wrong: int):
        answers = [f"answer {row}!" if int(row) >= wrong else "no" for row in ids]
        predicted_tags = [["B-A", "I-A", "O"] if int(row) >= wrong else ["B-A", "O", "O"] for row in ids]
        parts = [Part("qa", "test", 0, ids, golds, answers), Part("ner", "test", 0, ids, tags, predicted_tags)]
        return replace(predictions(*parts), tasks=tasks)

    made = compare({"a": run(30), "b": run(15)})
    assert [round(line.score) for line in made.lines] == [50, 75, 50, 75]
    assert all(line.is_significant and line.test == "a paired bootstrap" for line in made.lines[1::2])


def test_more_questions_need_more_evidence() -> None:
    """Holm: a p of 0.03 is enough for one task, and not for each of four."""
    alone = compare({"a": predictions(part(0.80, rows=100)), "b": predictions(part(0.88, rows=100))})
    assert alone.lines[1].p is not None and 0.005 < alone.lines[1].p < 0.05 and alone.lines[1].is_significant
    tasks = [f"t{number}" for number in range(8)]
    many = compare({
        name: predictions(*(part(share, rows=100, task=task) for task in tasks))
        for name, share in (("a", 0.80), ("b", 0.88))
    })  # fmt: skip
    assert not any(line.is_significant for line in many.lines)
