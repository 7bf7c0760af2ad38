"""Held-out losses of a mixture by source: means over each source's rows alone."""

from __future__ import annotations

import numpy as np

from data_prep.rng import Draws, key
from data_prep.shards.order import mixing_weights
from data_prep.shards.rows import Ragged
from data_prep.text.write_shards import _cut_at
from training.job import with_source


def test_a_row_has_the_source_of_its_first_document() -> None:
    add = with_source(None, [("en", 3), ("ko", 2), ("en", 1)], ["de", "en", "ko"])
    draws = Draws(key(1, "test"), 0, np.arange(6))
    assert add({"document": np.arange(6, dtype=np.uint32)}, draws)["source"].tolist() == [1, 1, 1, 2, 2, 1]
    packed = Ragged.from_lengths(np.array([0, 1, 2, 3, 4, 5], np.uint32), [2, 1, 2, 1])
    assert add({"document": packed}, draws)["source"].tolist() == [1, 1, 2, 1]


def test_documents_of_two_sources_are_not_composed_together() -> None:
    assert list(_cut_at(range(0, 10), [4, 7, 10])) == [range(0, 4), range(4, 7), range(7, 10)]
    assert list(_cut_at(range(5, 10), [4, 5, 12])) == [range(5, 10)]
    assert list(_cut_at(range(0, 3), [])) == [range(0, 3)]


def test_temperature_is_the_exponent_of_the_papers() -> None:
    """q = n^α / Σ n^α: Conneau et al. 2020, section 3.1, with α = 0.3; multilingual BERT has 0.7."""
    rows = [1_000_000, 10_000, 100]
    for alpha in (0.7, 0.3):
        weights = np.array(mixing_weights(rows, alpha))
        share = np.array(rows) / sum(rows)
        wanted = share**alpha / (share**alpha).sum()
        assert np.allclose(weights / weights.sum(), wanted, rtol=1e-12)
    assert np.allclose(
        np.array(mixing_weights(rows, 0.7)) / sum(mixing_weights(rows, 0.7)), [0.96025, 0.03823, 0.00152], atol=1e-5
    )
