"""Hidden frames: runs of seven, and one way of hiding for a whole row."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.corruptions import build, config_of
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, ragged


def test_runs_of_seven_and_one_way_for_a_row() -> None:
    count, n = 2000, 100
    values = np.arange(1, count * n + 1, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    clean = Ragged.from_lengths(values, np.full(count, n))
    rows = build(config_of({"kind": "masked-frames"}))({"input": clean}, Draws(key(0, "x"), 0, np.arange(count)))
    ways = {"zero": 0, "other": 0, "keep": 0}
    begins = np.zeros(n, int)
    for row in range(count):
        places = ragged(rows, "target_positions").row(row).astype(int)
        assert len(places) == 14 and (np.diff(places.reshape(2, 7)) == 1).all()
        begins[places[::7]] += 1
        before, after = clean.row(row), ragged(rows, "seen").row(row)
        untouched = np.delete(np.arange(n), places)
        assert np.array_equal(before[untouched], after[untouched])
        if (after[places] == 0).all():
            ways["zero"] += 1
        elif np.array_equal(after, before):
            ways["keep"] += 1
        else:
            ways["other"] += 1
            assert (np.diff(after[places, 0].reshape(2, 7)) == 1).all() and np.isin(after, before).all()
    assert ways["zero"] / count == pytest.approx(0.8, abs=0.03)
    assert ways["other"] / count == pytest.approx(0.1, abs=0.03)
    assert begins[:94].min() > 0 and begins[94:].sum() == 0


def test_shares_are_at_most_one() -> None:
    with pytest.raises(ValidationError, match="at most 1"):
        config_of({"kind": "masked-frames", "zero": 0.8, "other": 0.3})
