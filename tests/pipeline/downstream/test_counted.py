"""Numbers of what is odd about examples."""

from __future__ import annotations

from pipeline.downstream.counted import Counted, said, summed


def test_what_is_counted_in_parts_is_said_of_the_whole() -> None:
    parts = [Counted(1, 1024, "rows are cut"), Counted(0, 7, "words"), Counted(0, 1024, "rows are cut")]
    assert summed(parts) == [Counted(1, 2048, "rows are cut"), Counted(0, 7, "words")]
    assert said(summed(parts)) == ["1 of 2,048 rows are cut"], "what there is none of is not said"
