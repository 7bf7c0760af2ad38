"""Transform between the columns of a table and network inputs; fitted on training rows only.

    fit      two passes over the rows: a survey of the values, then means and deviations of numbers
    apply    a batch of columns → float32 [R, D]; each row independently of the others
    within   the same, with numbers and dates beyond the training range at its ends
    outside  a batch of columns → float64 [R, columns]: how far they lie outside of the training values
    invert   float [R, D] → the columns, as far as they can be recovered

Means are computed over blocks of a fixed size, so that results do not depend on how rows are batched. Medians,
quantiles and heavy tails are estimated from a sample: the SAMPLE rows with the smallest hashes of their contents,
independent of their order; smaller tables are used completely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from data_prep.corpus.schema import TableSchema
from data_prep.errors import UserError
from data_prep.opening.files import clause
from data_prep.sealed import sealed, unsealed, write_whole
from data_prep.tables.transform.columns import ColumnTransform, Dropped, of_json, to_json
from data_prep.tables.transform.fit import Moments, Survey, fitted

FORMAT = 3
FILE = "transform.json"  # in the preprocessor of a table


class TransformConfig(BaseModel):
    """How columns become features."""

    model_config = ConfigDict(extra="forbid")

    scale: Literal["standard", "minmax", "quantile"] = "standard"
    """Numbers: mean 0 and deviation 1, 0 to 1 between the extremes, or the share of training values below."""
    fill: Literal["mean", "median"] = "median"
    """Replacement for missing numbers."""
    indicators: Literal["seen", "always", "never"] = "seen"
    """Indicator features of missing values: for columns with missing training values, for all columns, or for none."""
    log: list[str] | Literal["auto"] = Field(default_factory=list)
    """Columns to scale after taking the logarithm, sign(x)·log(1 + |x|): their names, or auto for heavy-tailed ones."""
    min_share: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Categories with a smaller share of the training rows become "other"."""
    max_levels: Annotated[int, Field(ge=1)] = 100
    """Maximum number of categories of a column with their own features."""


class Transform:
    """Columns → features. Make one with `fit`, `load` or `of_json`; immutable."""

    def __init__(self, columns: Iterable[ColumnTransform], schema: TableSchema | None = None) -> None:
        self.columns = list(columns)
        self.schema = schema
        """Schema of the table, for reading its raw files; None if it was not given."""
        self.features: list[str] = [feature for column in self.columns for feature in column.features]
        self.columns_of: list[str] = [column.name for column in self.columns for _ in column.features]
        """The raw column of each feature."""

    @property
    def dropped(self) -> dict[str, str]:
        """Columns without features, and why."""
        return {column.name: column.why for column in self.columns if isinstance(column, Dropped)}

    @staticmethod
    def fit(
        batches: Callable[[], Iterable[pa.RecordBatch]],
        config: TransformConfig | None = None,
        schema: TableSchema | None = None,
    ) -> Transform:
        """Fit to training rows. `batches` is called twice and yields columns of float64, string or timestamp[us].

        UserError if there are no rows, no column varies, or a column cannot be scaled or has too many categories.
        """
        config = config or TransformConfig()
        survey = Survey()
        for batch in batches():
            survey.see(batch)
        if not survey.rows:
            raise UserError(
                "there are no training rows to fit a transform on; add sources or lower the shares held out"
            )
        if config.log != "auto":
            unknown = sorted(set(config.log) - {name for name, kind in survey.kinds.items() if kind == "numeric"})
            if unknown:
                raise UserError(f"data.transform.log names {unknown[0]!r}, which is no numeric column of the table")
        logs = survey.heavy_tailed() if config.log == "auto" else set(config.log)
        moments = Moments(survey, logs)
        for block in _blocks(batches(), survey):
            moments.see(block)
        transform = Transform(fitted(survey, moments, logs, config, schema.unlearned if schema else {}), schema)
        if not transform.features:
            raise UserError("no column of the training rows varies, so there is nothing to learn; add others")
        return transform

    def apply(self, batch: pa.RecordBatch) -> np.ndarray:
        """Features, float32 [R, D], of columns, which are looked up by name; other columns are ignored."""
        features = np.empty((batch.num_rows, len(self.features)), np.float32)
        start = 0
        for column in self.columns:
            if batch.schema.get_field_index(column.name) < 0:
                raise UserError(f"the rows have no column {column.name!r}, which the transform was fitted on")
            stop = start + len(column.features)
            if stop > start:
                features[:, start:stop] = column.apply(batch[column.name])
            start = stop
        return features

    def within(self, features: np.ndarray) -> np.ndarray:
        """Features [R, D] with those beyond the training range at its ends.

        Months, weekdays and hours of such dates stay as they are.
        """
        return np.clip(features, *self._range) if self.features else features

    @cached_property
    def _range(self) -> np.ndarray:
        """float32 [2, D]: the least and the greatest."""
        return np.array([ends for column in self.columns for ends in column.range], np.float32).reshape(-1, 2).T

    def outside(self, batch: pa.RecordBatch) -> np.ndarray:
        """How far each value of rows lies outside of what was learned, float64 [R, columns]; 0: it does not."""
        return np.stack([column.outside(batch[column.name]) for column in self.columns], 1)

    def invert(self, values: np.ndarray) -> pa.RecordBatch:
        """The columns of features [R, D]; inverts `apply`, except for values that it maps to the same features."""
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise ValueError(f"expected [R, {len(self.features)}] features, found {list(values.shape)}")
        arrays, start = [], 0
        for column in self.columns:
            stop = start + len(column.features)
            arrays.append(column.invert(values[:, start:stop]))
            start = stop
        return pa.record_batch(arrays, names=[column.name for column in self.columns])

    def to_json(self) -> dict[str, Any]:
        schema = None if self.schema is None else self.schema.to_json()
        return {"format": FORMAT, "columns": [to_json(column) for column in self.columns], "schema": schema}

    @staticmethod
    def of_json(value: dict[str, Any]) -> Transform:
        if value["format"] != FORMAT:
            raise ValueError(f"it has format {value['format']}, this version reads {FORMAT}")
        schema = None if value["schema"] is None else TableSchema.of_json(value["schema"])
        return Transform([of_json(column) for column in value["columns"]], schema)

    def save(self, path: Path) -> None:
        """Write it as JSON with its digest; `load` restores exactly the same transform."""
        write_whole(Path(path), sealed(self.to_json()))

    @staticmethod
    def load(path: Path) -> Transform:
        """The transform that `save` wrote; UserError if the file is damaged."""
        try:
            return Transform.of_json(unsealed(Path(path).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = clause(error)
            raise UserError(f"{path} is no transform that can be used ({reason}); make its artifact again") from error


def _blocks(batches: Iterable[pa.RecordBatch], survey: Survey) -> Iterator[np.ndarray]:
    """The numbers of all rows in blocks, float64 [Moments.BLOCK, C], NaN where missing; the last may be smaller."""
    waiting: list[np.ndarray] = []
    count = 0
    for batch in batches:
        waiting.append(survey.numbers_of(batch))
        count += batch.num_rows
        if count < Moments.BLOCK:
            continue
        joined = np.concatenate(waiting)
        num_complete = count - count % Moments.BLOCK
        yield from np.split(joined[:num_complete], num_complete // Moments.BLOCK)
        waiting, count = [joined[num_complete:]], count - num_complete
    if count:
        yield np.concatenate(waiting)
