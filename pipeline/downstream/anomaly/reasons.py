"""Why a row is unusual: its columns with the largest errors, their values and the expected ones."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.tables.transform import Transform
from training.inference.anomaly import Scorer

NAMED, IN_A_SENTENCE = 8, 3  # columns


def explain(
    rows: pa.RecordBatch, inputs: np.ndarray, scorer: Scorer, transform: Transform
) -> list[list[dict[str, Any]]]:
    """The columns with the largest errors of each row: `column`, `value`, `expected`, `share` of the row's error.

    inputs: float32 [R, D], the transformed rows.
    """
    names = list(dict.fromkeys(transform.columns_of))
    places = [np.flatnonzero(np.array(transform.columns_of) == name) for name in names]
    shares, instead = scorer.reasons(inputs, places)
    usual = transform.invert(instead)
    return [
        [
            {
                "column": names[place],
                "share": float(shares[row, place]),
                "value": _text(rows[names[place]][row].as_py()),
                "expected": _text(usual[names[place]][row].as_py()),
            }
            for place in np.argsort(-shares[row], kind="stable")[:NAMED]
        ]
        for row in range(rows.num_rows)
    ]


def sentence(columns: list[dict[str, Any]]) -> str:
    """The reasons in words."""
    return "; ".join(
        f"{c['column']} {c['value']}, not {c['expected']} ({c['share']:.0%})" for c in columns[:IN_A_SENTENCE]
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return "missing" if value is None else str(value)
