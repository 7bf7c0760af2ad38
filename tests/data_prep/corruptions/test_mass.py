"""MASS: half of a text in one piece, where it lies, and what the encoder sees in its place."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corruptions.mass import Mass, MassConfig
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged

PAD, BOS, EOS, MASK = range(4)
SPECIALS = Specials(500, pad=PAD, bos=BOS, eos=EOS, mask=MASK)


def corrupted(lengths: list[int], framed: bool = False, **options: Any) -> Rows:
    """Texts of 10, 11, 12, …, so that a token tells its place."""
    texts = [[*range(10, 10 + length)] for length in lengths]
    rows: Rows = {"input": Ragged.from_rows([[BOS, *text, EOS] if framed else text for text in texts], np.uint16)}
    return Mass(MassConfig(kind="mass", **options), SPECIALS)(rows, Draws(5, 0, np.arange(len(lengths))))


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5), rate=st.floats(0.01, 1), framed=st.booleans())
def test_one_fragment_of_the_text_is_hidden(lengths: list[int], rate: float, framed: bool) -> None:
    rows = corrupted(lengths, framed, rate=rate)
    for row, length in enumerate(lengths):
        positions, ids = (ragged(rows, name).row(row) for name in ("target_positions", "target_ids"))
        assert len(positions) == max(1, round(rate * length))
        assert (np.diff(positions.astype(int)) == 1).all() and (ids - positions == 10 - framed).all()
        seen = np.delete(ragged(rows, "seen").row(row), positions)
        left = [token for token in range(10, 10 + length) if token not in ids]
        assert seen.tolist() == ([BOS, *left, EOS] if framed else left)


def test_it_begins_and_ends_where_the_paper_says() -> None:
    count = 20_000
    rows = corrupted([10] * count)
    starts = Counter(ragged(rows, "target_positions").values[::5].tolist())
    assert starts[0] / count == pytest.approx(0.2 + 0.6 / 6, abs=0.01)
    assert starts[5] / count == pytest.approx(0.2 + 0.6 / 6, abs=0.01)
    assert all(starts[place] / count == pytest.approx(0.1, abs=0.01) for place in range(1, 5))
    ends = corrupted([10] * 50, front=0, back=1)
    assert (ragged(ends, "target_positions").values.reshape(50, 5) == np.arange(5, 10)).all()


def test_eighty_ten_ten() -> None:
    rows = corrupted([400] * 100)
    seen, ids = ragged(rows, "seen"), ragged(rows, "target_ids")
    index = seen.offsets[ids.row_index()] + ragged(rows, "target_positions").values
    at_targets = seen.values[index]
    assert len(at_targets) == 200 * 100
    assert (at_targets == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (at_targets == ids.values).mean() == pytest.approx(0.1, abs=0.01)
    others = at_targets[(at_targets != MASK) & (at_targets != ids.values)]
    assert others.min() > MASK and len(set(others.tolist())) > 400


def test_a_row_is_pinned() -> None:
    rows = corrupted([8], framed=True)
    assert ragged(rows, "seen").values.tolist() == [BOS, 10, 11, 12, MASK, MASK, MASK, 146, 17, EOS]
    assert ragged(rows, "target_positions").values.tolist() == [4, 5, 6, 7]
    assert ragged(rows, "target_ids").values.tolist() == [13, 14, 15, 16]


def test_what_cannot_be_meant_is_refused() -> None:
    for options, text in (({"mask": 0.9}, "must sum to 1"), ({"front": 0.8, "back": 0.3}, "must not exceed 1")):
        with pytest.raises(ValidationError, match=text):
            MassConfig(kind="mass", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="corruption mass is of rows of one sequence each"):
        Mass(MassConfig(kind="mass"), SPECIALS)(
            {"input": Ragged.from_rows([[9, 9]]), "sequence": Ragged.from_rows([[0, 1]])}, Draws(1, 0, [0])
        )
    with pytest.raises(ValueError, match="longer than 65536"):
        Mass(MassConfig(kind="mass"), SPECIALS)({"input": Ragged.from_rows([np.full(65_537, 9)])}, Draws(1, 0, [0]))
