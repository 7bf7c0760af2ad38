"""Examples as T5 was given them: prefixes, orders of fields, texts of labels, and what counts as a label."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.labelled.task import filled, task_of
from data_prep.labelled.text_to_text import (
    GLUE,
    NO_LABEL,
    for_f1,
    in_one_text,
    label_of,
    pronoun,
    question,
    source,
    spaced,
    summary,
    target,
    translation,
)


@pytest.mark.parametrize(
    ("task", "fields", "label", "given_text", "wanted"),
    [
        ("cola", {"sentence": "A b."}, 0, "cola sentence: A b.", "unacceptable"),
        ("sst2", {"sentence": "good"}, 1, "sst2 sentence: good", "positive"),
        ("mnli", {"premise": "P", "hypothesis": "H"}, 1, "mnli hypothesis: H premise: P", "neutral"),
        ("qnli", {"sentence": "S", "question": "Q"}, 1, "qnli question: Q sentence: S", "not_entailment"),
        ("qqp", {"question2": "B", "question1": "A"}, 1, "qqp question1: A question2: B", "duplicate"),
        ("mrpc", {"sentence1": "A", "sentence2": "B"}, 0, "mrpc sentence1: A sentence2: B", "not_equivalent"),
        ("rte", {"sentence1": "A", "sentence2": "B"}, 0, "rte sentence1: A sentence2: B", "entailment"),
        ("stsb", {"sentence1": "A", "sentence2": "B"}, 3.25, "stsb sentence1: A sentence2: B", "3.2"),
        ("rte", {"sentence1": "A", "sentence2": "B"}, NO_LABEL, "rte sentence1: A sentence2: B", "<unk>"),
    ],
)
def test_examples_are_those_of_t5(
    task: str, fields: dict[str, str], label: float, given_text: str, wanted: str
) -> None:
    assert source(task, fields) == given_text
    assert target(GLUE[task], label) == wanted


def test_inputs_in_one_text_may_have_any_name() -> None:
    values = {"test": "t.csv", "inputs": ["c!d", "a:b"], "label": "label", "head": "class"}
    template = in_one_text(task_of(values, "it"), "{x}").inputs[0]
    assert filled(template, {"a:b": "1", "c!d": "2"}) == "{x} a:b: 1 c!d: 2"


def test_fields_are_in_the_order_of_the_alphabet() -> None:
    assert all(list(task.fields) == sorted(task.fields) for task in GLUE.values())
    assert "wnli" not in GLUE and len(GLUE) == 8


@pytest.mark.parametrize(
    ("score", "text"), [(0, "0.0"), (5, "5.0"), (3.8, "3.8"), (2.5, "2.4"), (0.1, "0.0"), (0.3, "0.4"), (4.9, "4.8")]
)
def test_scores_are_rounded_to_fifths_and_halves_to_even(score: float, text: str) -> None:
    """5 · 2.5 = 12.5, 5 · 0.1 = 0.5, 5 · 0.3 = 1.5, 5 · 4.9 = 24.5: each to the even number beside it."""
    assert target(GLUE["stsb"], score) == text


@given(st.sampled_from(sorted(GLUE)), st.data())
def test_a_written_target_is_the_label(name: str, data: st.DataObject) -> None:
    task = GLUE[name]
    label = data.draw(
        st.sampled_from(range(len(task.labels))) if task.labels else st.integers(0, 25).map(lambda n: n / 5)
    )
    assert label_of(task, target(task, label)) == pytest.approx(label)


@pytest.mark.parametrize("text", ["", "Acceptable", "acceptable ", "acceptable.", "unacceptabl", "<unk>"])
def test_any_other_text_is_no_label_and_wrong(text: str) -> None:
    assert label_of(GLUE["cola"], text) == NO_LABEL
    assert label_of(GLUE["stsb"], text) == NO_LABEL
    assert for_f1([0, 1, 1], [label_of(GLUE["mrpc"], text), 1, NO_LABEL]) == [1, 1, 0]


def test_numbers_that_are_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="rte has the labels 0 to 1, not 2"):
        target(GLUE["rte"], 2)


def test_other_tasks() -> None:
    asked = question("Who's there?", "Nobody (yet), they said.", ["Nobody (yet)", "no one"])
    assert asked == ("question: Who ' s there ? context: Nobody ( yet ) , they said .", "Nobody ( yet )")
    assert question("Who?", "x", [])[1] == "<unk>"
    assert spaced("na\u0308ive_x 1½–2") == "na\u0308ive_x 1½ – 2"
    assert translation("That is good.", "English", "German") == "translate English to German: That is good."
    assert summary("A long story.") == "summarize: A long story."
    words = ["Mark", "told", "Pete", "lies", "about", "himself", ".", "He", "should", "have", "known", "."]
    assert pronoun(words, 7).endswith("himself . *He* should have known .") and pronoun(words, 7).startswith(
        "wsc: Mark"
    )
