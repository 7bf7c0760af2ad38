"""F1 of entities: what conlleval printed for these tags, in every scheme."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from pipeline.downstream.metrics import measured, scores
from pipeline.downstream.metrics.entities import entities

TRUTH = [
    ["B-NP", "I-NP", "I-NP", "B-NP", "I-NP", "I-NP", "B-VP", "B-NP", "B-VP", "B-NP", "I-NP", "I-NP", "O"],
    ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-LOC"],
    ["B-PER", "I-PER", "I-LOC", "O", "I-A-B"],
]
PREDICTED = [
    ["I-NP", "I-NP", "I-NP", "B-NP", "I-NP", "B-NP", "B-VP", "B-NP", "I-VP", "B-NP", "I-NP", "I-NP", "O"],
    ["B-PER", "I-PER", "O", "I-LOC", "I-LOC", "I-LOC"],
    ["B-PER", "I-PER", "B-LOC", "O", "B-A-B"],
]


def test_what_conlleval_prints() -> None:
    """24 tokens with 12 phrases; found: 12; correct: 9. accuracy: 70.83; precision, recall, FB1: 75.00."""
    values = scores(["entity-f1", "accuracy"], "tags", TRUTH, PREDICTED)
    assert [round(value, 2) for value in values.values()] == [75.0, 75.0, 75.0, 70.83]
    second = scores(["entity-f1"], "tags", TRUTH[1:2], PREDICTED[1:2])
    assert [round(value, 2) for value in second.values()] == [40.0, 50.0, 33.33], "one of two found, of three"


SCHEMES = {
    "IOB1": "I-A B-A I-B O I-A I-A B-A I-A O",
    "IOB2": "B-A B-A B-B O B-A I-A B-A I-A O",
    "IOE": "E-A I-A I-B O I-A E-A I-A I-A O",
    "IOBES": "S-A S-A S-B O B-A E-A B-A E-A O",
    "BILOU": "U-A U-A U-B O B-A L-A B-A L-A O",
    "BMES": "S-A S-A S-B O B-A E-A B-A E-A O",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_reading_serves_all_schemes(scheme: str) -> None:
    assert entities(SCHEMES[scheme].split()) == {(0, 0, "A"), (1, 1, "A"), (2, 2, "B"), (4, 5, "A"), (6, 7, "A")}


def test_long_ones() -> None:
    for tags in ("B-A I-A I-A I-A", "B-A M-A M-A E-A", "B-A I-A I-A L-A", "I-A I-A I-A E-A"):
        assert entities(tags.split()) == {(0, 3, "A")}


def test_an_entity_ends_with_its_sentence() -> None:
    assert scores(["entity-f1"], "tags", [["I-A"], ["I-A"]], [["I-A"], ["B-A"]])["entity-f1"] == 100
    joined = scores(["entity-f1"], "tags", [["I-A", "I-A"]], [["I-A", "B-A"]])
    assert joined["entity-f1"] == 0, "in one sentence it goes on"


def test_without_entities_there_is_nothing_to_find() -> None:
    assert scores(["entity-f1"], "tags", [["O", "O"]], [["O", "O"]])["entity-f1"] == 0, "as conlleval has it"
    assert scores(["entity-f1"], "tags", [["B-A", "O"]], [["O", "O"]])["entity-f1"] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=12))
def test_iob2_says_where_its_entities_are(tags: list[str]) -> None:
    """Written again in IOBES, they are the same."""
    again = ["O"] * len(tags)
    for first, last, kind in entities(tags):
        assert set(again[first : last + 1]) == {"O"}, "none overlap"
        again[first : last + 1] = [f"I-{kind}"] * (last + 1 - first)
        again[last], again[first] = f"E-{kind}", f"{'S' if first == last else 'B'}-{kind}"
    assert entities(again) == entities(tags)
    assert [tag == "O" for tag in again] == [tag == "O" for tag in tags], "every word with a tag is in one"


def test_sentences_can_be_drawn_again() -> None:
    value = measured("entity-f1", "tags", TRUTH, PREDICTED).of(np.array([0, 2, 1]))["entity-f1"]
    drawn = [1, 1, 2]
    wanted = scores(["entity-f1"], "tags", [TRUTH[i] for i in drawn], [PREDICTED[i] for i in drawn])
    assert value == pytest.approx(wanted["entity-f1"])


def test_other_tags_are_refused() -> None:
    with pytest.raises(UserError, match="'NN' is not a tag of an entity; expected O, or B, I, E, S, L, U, M, a hyphen"):
        scores(["entity-f1"], "tags", [["NN"]], [["NN"]])
    with pytest.raises(ValueError, match="sentence 0 has 1 words and 2 predicted tags"):
        scores(["entity-f1"], "tags", [["O"]], [["O", "O"]])
