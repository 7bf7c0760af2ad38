"""Multiple choice: what a row's choices are, and how its label says which one is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled.choices import RightChoice, numbers
from data_prep.labelled.loading import load_task
from data_prep.labelled.task import task_of
from data_prep.tokens.cleaning import Cleaning
from tests.data_prep.labelled.conftest import Load

FOUR = ["1", "2", "3", "4"]
GIVEN: dict[str, Any] = {"validation": "a.jsonl", "inputs": ["q"], "choices": "c"}


def rows(labels: list[Any], choices: list[Any]) -> list[dict[str, Any]]:
    return [{"q": f"question {number}", "c": choices, "label": label} for number, label in enumerate(labels)]


def right(load: Load, answers: list[Any], choices: list[Any], **settings: Any) -> list[int]:
    data = load({"a.jsonl": rows(answers, choices)}, **GIVEN, **settings)
    return [example.label for example in data.splits["validation"]]


@pytest.mark.parametrize("of", [int, str, float])
def test_numbers_among_choices_are_read_alike_whatever_the_format(load: Load, of: type) -> None:
    """As JSON has numbers, as cells have them, and as pandas writes them."""
    assert right(load, [of(place) for place in (0, 3, 1)], FOUR) == [0, 3, 1]
    assert right(load, [of(place) for place in (1, 4, 2)], FOUR) == [0, 3, 1]
    assert right(load, [of(place) for place in (1, 4, 2)], [1.0, 2, 3, 4]) == [0, 3, 1]
    table = f"q\ta\tb\tlabel\nwho\t1\t2\t{of(2)}\nwhat\t1\t2\t{of(1)}\n"
    data = load({"a.tsv": table}, validation="a.tsv", inputs=["q"], choices=["a", "b"])
    assert [example.label for example in data.splits["validation"]] == [1, 0]


def test_a_label_that_may_be_a_text_or_a_number_is_refused(load: Load) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl:2: 'label' is '2', which may be .*; say which .* by labels"):
        right(load, ["0", "2"], ["0", "3", "1", "2"])
    assert right(load, ["0", "2"], ["0", "3", "1", "2"], labels={"0": 0, "2": 3}) == [0, 3]
    assert right(load, ["0", "1"], ["0", "1"]) == [0, 1]  # both ways say the same


def test_rows_tell_how_a_label_is_read_across_splits(load: Load) -> None:
    files = {"a.jsonl": rows([1, 2], FOUR), "b.jsonl": rows([4], FOUR)}
    data = load(files, train="b.jsonl", **GIVEN)
    assert [example.label for example in data.splits["validation"]] == [0, 1]


def test_texts_and_numbers_may_be_mixed_where_no_number_can_be_a_text() -> None:
    clear = [RightChoice("line 1", "all", ("it", "all")), RightChoice("line 2", "1", ("it", "all"))]
    assert numbers(clear, "label") == [1, 1]
    with pytest.raises(UserError, match=r"line 3: 'label' is '1', which may be"):
        numbers([*clear, RightChoice("line 3", "1", ("3", "7"))], "label")


@pytest.mark.parametrize("labels", [{"A": 0, "B": 1, "1": 0}, ["A", "B"]])
def test_codes_of_choices(load: Load, labels: Any) -> None:
    assert right(load, ["B", "A"], ["x", "y"], labels=labels) == [1, 0]
    with pytest.raises(UserError, match=r"line 1: the label 'C' in 'label'; allowed: A, B"):
        right(load, ["C"], ["x", "y"], labels=labels)


def test_codes_that_cannot_be_used_are_refused(load: Load) -> None:
    with pytest.raises(UserError, match=r"labels: B: 'two' is no choice; give the number of the choice, from 0"):
        task_of({"choices": "c", "labels": {"A": 0, "B": "two"}}, "task")
    with pytest.raises(UserError, match=r"'label' is 'C', by labels choice 2 from 0, and the row has 2"):
        right(load, ["C"], ["x", "y"], labels=["A", "B", "C"])
    with pytest.raises(
        UserError, match=r"'label' is \"C\", neither .*; other codes, such as letters, are given numbers"
    ):
        right(load, ["C"], ["x", "y"])


def test_the_last_of_one_column_for_each_choice_may_be_empty(load: Load) -> None:
    table = "q,a,b,c,label\nwho,x,y,z,2\nwhat,x,y,,1\nhow,x,,z,0\n"
    data = load({"a.csv": table}, validation="a.csv", inputs=["q"], choices=["a", "b", "c"], max_rejects=1)
    assert [row.choices for row in data.splits["validation"]] == [("x", "y", "z"), ("x", "y")]
    assert any("line 4: a choice in 'a, b, c' is \"\"; expected text" in note for note in data.notes)
    null = [{"q": "who", "a": "x", "b": "y", "c": None, "label": 0}]
    data = load({"a.jsonl": null}, validation="a.jsonl", inputs=["q"], choices=["a", "b", "c"])
    assert data.splits["validation"][0].choices == ("x", "y")


def test_an_empty_choice_of_a_list_is_refused_and_counted(load: Load) -> None:
    files = {"a.jsonl": rows([0], ["x", "y"]) + rows([1], ["", "y"])}
    with pytest.raises(UserError, match=r"line 2: a choice in 'c' is \"\"; expected text"):
        load(files, **GIVEN)
    data = load(files, **GIVEN, max_rejects=1)
    assert len(data.splits["validation"]) == 1 and any("cannot be used, left out: 1" in note for note in data.notes)


def test_choices_are_compared_as_they_are_cleaned(load: Load, tmp_path: Path) -> None:
    load({"a.jsonl": rows(["cafe\u0301", 1], ["caf\u00e9", " so  good "])}, **GIVEN)
    data = load_task(tmp_path / "task.yaml", Cleaning())
    first, second = data.splits["validation"]
    assert first.choices == second.choices == ("caf\u00e9", "so good") and (first.label, second.label) == (0, 1)
    (tmp_path / "a.jsonl").write_text('{"q": "who", "c": ["a b", "a  b"], "label": 0}')
    with pytest.raises(UserError, match=r"line 1: two choices in 'c' are the same"):
        load_task(tmp_path / "task.yaml", Cleaning())
