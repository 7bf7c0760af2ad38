"""Examples as T5 was given them: names of tasks, orders of fields, spaces around punctuation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.labelled.suite import open_suite
from data_prep.labelled.task import filled, task_of
from data_prep.labelled.text_to_text import as_in, in_one_text, question, spaced

GLUE = [
    ("CoLA", {"sentence": "A b."}, "cola sentence: A b."),
    ("SST-2", {"sentence": "good"}, "sst2 sentence: good"),
    ("MNLI", {"sentence1": "P", "sentence2": "H"}, "mnli hypothesis: H premise: P"),
    ("QNLI", {"sentence": "S", "question": "Q"}, "qnli question: Q sentence: S"),
    ("QQP", {"question2": "B", "question1": "A"}, "qqp question1: A question2: B"),
    ("MRPC", {"#1 String": "A", "#2 String": "B"}, "mrpc sentence1: A sentence2: B"),
    ("RTE", {"sentence1": "A", "sentence2": "B"}, "rte sentence1: A sentence2: B"),
    ("STS-B", {"sentence1": "A", "sentence2": "B"}, "stsb sentence1: A sentence2: B"),
]
LABELS = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
}


@pytest.mark.parametrize(("of", "fields", "wanted"), GLUE)
def test_tasks_of_glue_are_given_and_labelled_as_those_of_t5(
    of: str, fields: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / of).mkdir()
    for split in ("train", "dev", "dev_matched", "dev_mismatched"):
        (tmp_path / of / f"{split}.tsv").touch()
    name = of.lower().replace("-", "")
    task = open_suite("glue", tmp_path).task(name)
    assert filled(in_one_text(task, name).inputs[0], fields) == wanted
    assert list(task.classes.values()) == LABELS.get(name, [])


def test_inputs_in_one_text_may_have_any_name() -> None:
    values = {"test": "t.csv", "inputs": ["c!d", "a:b"], "label": "label", "head": "class"}
    template = in_one_text(task_of(values, "it"), "{x}").inputs[0]
    assert filled(template, {"a:b": "1", "c!d": "2"}) == "{x} a:b: 1 c!d: 2", "in the order of the alphabet"


def test_punctuation_of_questions_stands_between_spaces() -> None:
    asked = question("Who's there?", "Nobody (yet), they said.")
    assert asked == "question: Who ' s there ? context: Nobody ( yet ) , they said ."
    assert spaced("na\u0308ive_x 1½–2") == "na\u0308ive_x 1½ – 2"


@given(st.text("ab. -(\u0308_1", max_size=12), st.data())
def test_a_part_of_a_context_is_found_by_its_spaced_form(context: str, data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(context))] * 2)))
    found = as_in(context, spaced(context[start:end]))
    assert spaced(found) == spaced(context[start:end]) and (found in context)


def test_what_stands_in_no_context_stays_as_it_was_written() -> None:
    assert as_in("Mrs. O'Neill's café", "O ' Neill") == "O'Neill" == as_in("Mrs. O'Neill's café", "O'Neill")
    assert as_in("another one", "an other") == "an other", "words are not joined"
