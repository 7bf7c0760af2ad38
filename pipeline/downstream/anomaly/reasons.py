"""Why a row is unusual: its columns with the largest errors, their values and the expected ones."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from data_prep.tables.transform.transform import Transform
from pipeline.scoring.row_reasons import RowInputs, shares, why
from training.inference.anomaly import Scorer, Usual

NAMED, IN_A_SENTENCE = 8, 3  # columns


def explain(
    inputs: RowInputs, plain: np.ndarray, scorer: Scorer, transform: Transform, usual: Usual
) -> list[list[dict[str, Any]]]:
    """The columns with the largest shares of each row's score: `column`, `value`, `expected`, `share`, and `why` where
    the value lies outside of what was learned.

    plain: the scores of the rows [R] before they are raised.
    """
    if inputs.rows is None:
        raise ValueError("the rows of a table are needed to say what is unusual")
    names = [column.name for column in transform.columns]
    of_columns, instead = shares(scorer, transform, usual, plain, inputs)
    expected = transform.invert(instead)
    return [
        [
            {
                "column": names[place],
                "share": float(of_columns[row, place]),
                "value": _text(inputs.rows[names[place]][row].as_py()),
                "expected": _text(expected[names[place]][row].as_py()),
                "why": why(transform, inputs, row, place),
            }
            for place in np.argsort(-of_columns[row], kind="stable")[:NAMED]
        ]
        for row in range(len(plain))
    ]


def sentence(columns: list[dict[str, Any]]) -> str:
    """The reasons in words."""
    return "; ".join(f"{c['column']} {_what(c)} ({c['share']:.0%})" for c in columns[:IN_A_SENTENCE])


def _what(reason: dict[str, Any]) -> str:
    return reason["why"] or f"{reason['value']}, not {reason['expected']}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return "missing" if value is None else str(value)
