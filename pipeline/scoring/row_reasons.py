"""Which columns make a row of a table unusual: their shares of its score, and what is wrong where that can be said.

A score has two parts: what the network cannot rebuild, and how far values lie outside of what was learned. Each is
shared among the columns that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.tables.transform.transform import Transform
from pipeline.scoring.detector import REASONS, Reason
from training.inference.anomaly import Scorer, Usual

MOST = 20  # columns that are named, if as many lie outside


class RowInputs(NamedTuple):
    """Rows of a table, or images, as networks take them, and what networks cannot see of them."""

    values: np.ndarray  # float32 [R, *shape]; numbers beyond the training range are at its ends
    outside: np.ndarray  # float64 [R, columns]: see `data_prep.tables.outside`
    rows: pa.RecordBatch | None = None
    odd: Mapping[str, np.ndarray] = {}
    """bool [R] by column: values that do not have its kind, which are null in `rows`."""

    def taken(self, index: np.ndarray) -> RowInputs:
        """Some of the rows."""
        rows = None if self.rows is None else self.rows.take(pa.array(index))
        odd = {name: is_odd[index] for name, is_odd in self.odd.items()}
        return RowInputs(self.values[index], self.outside[index], rows, odd)


def shares(
    scorer: Scorer, transform: Transform, usual: Usual, score: np.ndarray, inputs: RowInputs
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the score by column of the transform, float64 [R, columns], and usual values instead of each column's,
    float32 [R, D]. score: [R], not raised."""
    columns_of = np.array(transform.columns_of)
    places = [np.flatnonzero(columns_of == column.name) for column in transform.columns]
    has_features = np.array([len(place) > 0 for place in places])
    of_network, instead = scorer.reasons(inputs.values, [place for place in places if len(place)])
    lift = usual.lift(score, inputs.outside)
    rest = np.maximum(score - usual.low, 0)
    whole = np.maximum(lift + rest, np.finfo(float).tiny)[:, None]
    column_shares = np.zeros((len(score), len(places)))
    column_shares[:, has_features] = of_network * rest[:, None] / whole
    how_far = np.maximum(inputs.outside.sum(1, keepdims=True), np.finfo(float).tiny)
    return column_shares + inputs.outside / how_far * lift[:, None] / whole, instead


def reasons(transform: Transform, shares: np.ndarray, inputs: RowInputs) -> list[list[Reason]]:
    """Columns with the largest shares [R, columns] of each row; all that lie outside, and say so, are among them."""
    return [_of_row(transform, shares[row], inputs, row) for row in range(len(shares))]


def _of_row(transform: Transform, shares: np.ndarray, inputs: RowInputs, row: int) -> list[Reason]:
    ranked = np.argsort(-shares, kind="stable").tolist()
    outside = [place for place in ranked if inputs.outside[row, place] > 0][:MOST]
    chosen = outside + [place for place in ranked if place not in outside][: max(REASONS - len(outside), 0)]
    chosen.sort(key=lambda place: -shares[place])
    return [
        Reason(transform.columns[place].name, float(shares[place]), why(transform, inputs, row, place))
        for place in chosen
    ]


def why(transform: Transform, inputs: RowInputs, row: int, place: int) -> str:
    """How the value of a column lies outside of what was learned, in words; empty if it does not."""
    column = transform.columns[place]
    if not inputs.outside[row, place] > 0 or inputs.rows is None:
        return ""
    if column.name in inputs.odd and inputs.odd[column.name][row]:
        return f"is no {'date' if inputs.rows.schema.field(column.name).type == pa.timestamp('us') else 'number'}"
    return column.how_outside(inputs.rows[column.name][row])


def outside_of(transform: Transform, rows: pa.RecordBatch, odd: Mapping[str, np.ndarray]) -> np.ndarray:
    """How far each value lies outside, float64 [R, columns], with those that do not have their column's kind."""
    outside = transform.outside(rows)
    names: Sequence[str] = [column.name for column in transform.columns]
    for name, is_odd in odd.items():
        place = names.index(name)
        outside[is_odd, place] = np.maximum(outside[is_odd, place], transform.columns[place].unknown)
    return outside
