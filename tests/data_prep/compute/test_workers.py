from __future__ import annotations

import sys

import pyarrow as pa

from data_prep.compute.workers import WorkerPool, Workers


def _makes_an_array(number: int) -> tuple[int, bool]:
    return len(pa.array([number])), "pandas" in sys.modules


def test_workers_make_arrays_without_pandas() -> None:
    with WorkerPool(Workers(2)) as pool:
        assert list(pool.in_order(_makes_an_array, [1, 2])) == [(1, False)] * 2
