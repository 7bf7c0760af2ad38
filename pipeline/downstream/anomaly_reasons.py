"""Why a row is unusual: which columns are not rebuilt, what they hold, and what they would hold in a normal row."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.transform import Transform

TOLD = 3  # columns


def by_column(by_feature: np.ndarray, columns_of: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Errors [R, D] of features added up by raw column: names [C], in order, and errors [R, C]."""
    names = list(dict.fromkeys(columns_of))
    place = {name: number for number, name in enumerate(names)}
    belongs = np.zeros((len(columns_of), len(names)))
    belongs[np.arange(len(columns_of)), [place[name] for name in columns_of]] = 1
    return names, by_feature @ belongs


def told(rows: pa.RecordBatch, rebuilt: np.ndarray, by_feature: np.ndarray, transform: Transform) -> list[list[dict]]:
    """For each row of a table its worst columns: `column`, `share` of the row's error, `found`, `expected`.

    rebuilt and by_feature: [R, D], of the rows' features.
    """
    names, errors = by_column(by_feature, transform.columns_of)
    usual = transform.invert(rebuilt)
    shares = errors / np.maximum(errors.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    return [
        [
            {
                "column": names[place],
                "share": float(shares[row, place]),
                "found": _text(rows[names[place]][row].as_py()),
                "expected": _text(usual[names[place]][row].as_py()),
            }
            for place in np.argsort(-shares[row], kind="stable")[:TOLD]
        ]
        for row in range(rows.num_rows)
    ]


def sentence(columns: list[dict[str, Any]]) -> str:
    """The same for people."""
    return "; ".join(f"{c['column']} {c['found']}, not {c['expected']} ({c['share']:.0%})" for c in columns)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return "missing" if value is None else str(value)
