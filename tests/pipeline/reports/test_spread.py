"""Mean ± standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.reports.spread import mean_and_spread


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ([0.25, 0.5, 0.75], 3, "0.500 ± 0.250"),  # of a sample: divided by n − 1
        (np.array([100.0, 50.0]), 1, "75.0 ± 35.4"),
        ([0.5], 2, "0.50"),
        ([], 3, "–"),
    ],
)
def test_mean_and_spread(values: Sequence[float] | np.ndarray, digits: int, text: str) -> None:
    assert mean_and_spread(values, digits) == text
