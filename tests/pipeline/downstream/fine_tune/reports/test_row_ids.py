from __future__ import annotations

from dataclasses import replace

from data_prep.labelled.examples import Example
from pipeline.downstream.fine_tune.reports.report import row_ids


def test_a_row_without_an_id_is_its_place_and_its_content() -> None:
    row = Example(text="A cat.", text_pair="A dog.", id="test.tsv:2", place="test.tsv:2")
    same = replace(row, label=3, language="de")
    others = [
        replace(row, text="Eine Katze."),
        replace(row, text_pair=None),
        replace(row, words=("A", "cat.")),
        replace(row, choices=("a", "b")),
        replace(row, digest="00ff"),
        replace(row, id="test.tsv:3", place="test.tsv:3"),
    ]
    assert row_ids([row])[0].startswith("test.tsv:2 ") and row_ids([same]) == row_ids([row])
    assert len({*row_ids([row]), *(row_ids([other])[0] for other in others)}) == 1 + len(others)


def test_equal_rows_of_data_without_places_are_numbered() -> None:
    row, other = Example(text="A cat."), Example(text="A dog.")
    first, second, third, fourth = row_ids([row, other, row, row])
    assert [third, fourth] == [f"{first}-2", f"{first}-3"] and second not in (first, f"{first}-2")


def test_ids_of_their_own_are_kept() -> None:
    """Also where rows of other languages have them, which are compared apart."""
    row = Example(text="A cat.", id="q-17", place="test.tsv:2")
    assert row_ids([row, replace(row, text="Eine Katze.", language="de")]) == ["q-17", "q-17"]
