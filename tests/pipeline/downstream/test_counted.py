"""Numbers of what is odd about examples."""

from __future__ import annotations

from pipeline.downstream.counted import Counted, of_seeds, said, summed


def test_what_is_counted_in_parts_is_said_of_the_whole() -> None:
    parts = [Counted(1, 1024, "rows are cut"), Counted(0, 7, "words"), Counted(0, 1024, "rows are cut")]
    assert summed(parts) == [Counted(1, 2048, "rows are cut"), Counted(0, 7, "words")]
    assert said(summed(parts)) == ["1 of 2,048 rows are cut"], "what there is none of is not said"


def test_of_several_seeds_the_one_with_most_is_said() -> None:
    seeds = [[Counted(count, 9, "rows"), Counted(2, 5, "words"), Counted(0, 9, "others")] for count in (1, 4, 0)]
    assert of_seeds(seeds) == ["4 of 9 rows, in the seed with most", "2 of 5 words"]
