"""Which rows are copies and which are held out, told by their keys alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpus.decide import ArrayDecision, decide
from data_prep.corpus.documents import SPLITS, SplitConfig, shares
from data_prep.corpus.draft import REJECTED, Declared

SPLIT = SplitConfig(validation=0.2, test=0.2)
Row = tuple[int, int]  # what it holds, and what its rank is of: itself, or its group


def decided(
    folder: Path,
    *units: Sequence[Row],
    seed: int = 0,
    grouped: bool = False,
    declared: Sequence[str | None] = (),
    split: SplitConfig = SPLIT,
    ordered: bool = False,
) -> ArrayDecision:
    folders = []
    for number, rows in enumerate(units):
        unit = folder / str(number)
        unit.mkdir(parents=True)
        np.array([[row, row, rank, rank] for row, rank in rows], np.uint64).tofile(unit / "keys.u64")
        folders.append(unit)
    splits = Declared(declared or [None] * len(units), [len(rows) for rows in units])
    return decide(folders, splits, split, seed, folder / "scratch", grouped, ordered)


def counts(decision: ArrayDecision) -> list[int]:
    """Of the splits, and of what is rejected."""
    return [int((decision.split_of == code).sum()) for code in (*range(len(SPLITS)), REJECTED)]


def test_rows_are_held_out_by_the_share_of_those_that_are_kept(tmp_path: Path) -> None:
    """Copies, whose first row stays, take no part in the shares; how rows are cut into units does not show."""
    rows = [(number, number) for number in range(100)]
    copies = [(number, number) for number in range(0, 100, 2)]
    whole = decided(tmp_path / "whole", [*rows, *copies])
    assert counts(whole) == [60, 20, 20, 50]
    assert (whole.split_of[100:] == REJECTED).all() and whole.copies.tolist() == [
        [100 + place, number] for place, (number, _) in enumerate(copies)
    ]
    assert whole.num_tolerated == 50 and whole.reasons() == {"duplicate": 50}
    cut = decided(tmp_path / "cut", rows[:7], rows[7:90], [*rows[90:], *copies])
    assert np.array_equal(cut.split_of, whole.split_of) and cut.starts.tolist() == [0, 7, 90, 150]
    other = decided(tmp_path / "other", rows, seed=1)
    assert counts(other) == [60, 20, 20, 0] and not np.array_equal(other.split_of, whole.split_of[:100])


@pytest.mark.parametrize(
    ("count", "validation", "test", "held_out"),
    [
        (2, 0.5, 0.4, (0, 0)),  # too few
        (3, 0.01, 0.01, (1, 1)),
        (3, 0, 0.01, (0, 1)),
        (5, 0.35, 0.1, (2, 1)),  # 1.75 and 0.5
        (1000, 0.0126, 0.0124, (13, 12)),
        (4, 0.5, 0.49, (1, 2)),  # something is left to train on
    ],
)
def test_numbers_of_held_out_rows(count: int, validation: float, test: float, held_out: tuple[int, int]) -> None:
    assert shares(count, SplitConfig(validation=validation, test=test)) == held_out


def test_a_row_is_on_the_same_side_whatever_else_there_is(tmp_path: Path) -> None:
    few = decided(tmp_path / "few", [(number, number) for number in range(100)]).split_of
    more = decided(tmp_path / "more", [(number, number) for number in range(110)]).split_of[:100]
    assert (few != more).sum() <= 8, "only those near a boundary"


def test_groups_are_whole_and_their_shares_are_of_groups(tmp_path: Path) -> None:
    """However many rows they have."""
    sizes = [1, 30, 2, 50, 1, 1, 4, 1, 9, 1]
    rows = [(100 * group + number, group) for group, size in enumerate(sizes) for number in range(size)]
    rows += [(100, 1)]  # a copy
    decision = decided(tmp_path / "grouped", rows[::2], rows[1::2], grouped=True)
    ranks = np.array([group for _, group in [*rows[::2], *rows[1::2]]])
    split_of_group = {}
    for group in range(len(sizes)):
        (code,) = set(decision.split_of[(ranks == group) & (decision.split_of != REJECTED)].tolist())
        split_of_group[group] = SPLITS[code]
    assert sorted(split_of_group.values()) == ["test"] * 2 + ["train"] * 6 + ["validation"] * 2
    assert counts(decision)[3] == 1


def test_by_rank_the_lowest_are_tested_on_and_the_next_validate(tmp_path: Path) -> None:
    """As by time, whose ranks fall from the earliest row to the latest; a copy takes no place."""
    ranks = np.random.default_rng(0).permutation(60).tolist()
    rows = [(number, rank) for number, rank in enumerate(ranks)] + [(number, ranks[number]) for number in range(9)]
    uneven = SplitConfig(validation=0.3, test=0.1)
    for seed in (0, 1):
        splits = decided(tmp_path / str(seed), rows[:25], rows[25:], seed=seed, split=uneven, ordered=True).split_of
        wanted = [SPLITS.index("test" if rank < 6 else "validation" if rank < 24 else "train") for rank in ranks]
        assert splits[:60].tolist() == wanted and (splits[60:] == REJECTED).all()


def test_a_declared_split_is_kept_and_the_others_divide_the_rest(tmp_path: Path) -> None:
    rows = [(number, number) for number in range(100)]
    decision = decided(tmp_path / "declared", rows[:50], rows[50:], declared=["test", None])
    assert (decision.split_of[:50] == SPLITS.index("test")).all()
    assert counts(decision) == [40, 10, 50, 0]
