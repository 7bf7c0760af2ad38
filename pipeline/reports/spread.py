"""Mean ± standard deviation, as reports print the scores of several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np


def mean_and_spread(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Mean ± sample standard deviation; of one value itself, of none –."""
    if not len(values):
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
