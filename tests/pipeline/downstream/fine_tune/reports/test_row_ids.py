from __future__ import annotations

from dataclasses import replace

from data_prep.labelled.examples import Example
from pipeline.downstream.fine_tune.reports.report import row_id


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
    assert row_id(row).startswith("test.tsv:2 ") and row_id(same) == row_id(row)
    assert len({row_id(row), *map(row_id, others)}) == 1 + len(others)


def test_an_id_of_its_own_is_kept() -> None:
    assert row_id(Example(text="A cat.", id="q-17", place="test.tsv:2")) == "q-17"
