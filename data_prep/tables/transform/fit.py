"""Statistics of training rows for a transform: their values, and means and deviations of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.schema import ColumnKind
from data_prep.errors import UserError
from data_prep.tables.transform.columns import Calendar, ColumnTransform, Dropped, OneHot, Scaled, symmetric_log
from data_prep.tables.values import dates, numbers, texts

if TYPE_CHECKING:
    from data_prep.tables.transform.transform import TransformConfig

SAMPLE = 1 << 17  # rows
_SAMPLE_CELLS = 1 << 24  # limits the rows of wide tables, to 128 MiB
_MAX_VALUES = 1 << 20  # distinct values of a categorical column; with more, it is rather a name
_KNOTS = 1001
_HEAVY = 15.0  # a normal distribution has 4.6, an exponential one 9.0, a log-normal one 22
_DAY = 86_400_000_000  # µs


class Survey:
    """The first pass: ranges, missing values, categories, and a sample of the numbers."""

    def __init__(self) -> None:
        self.rows = 0
        self.kinds: dict[str, ColumnKind] = {}
        self.missing: Counter[str] = Counter()
        self.levels: dict[str, Counter[str]] = {}
        self.low: dict[str, float] = {}
        self.high: dict[str, float] = {}
        self.hours: set[str] = set()  # columns of dates with times of day
        self.fractions: set[str] = set()  # columns of numbers that are not all whole
        self._sample: list[tuple[np.ndarray, np.ndarray]] = []  # keys [n], numbers [n, C]
        self._waiting = 0

    @property
    def measured(self) -> list[str]:
        """Names of the numeric and date columns, in order."""
        return [name for name, kind in self.kinds.items() if kind != "categorical"]

    def numbers_of(self, batch: pa.RecordBatch) -> np.ndarray:
        """float64 [R, C] of the measured columns, dates in µs; NaN where missing."""
        matrix = np.empty((batch.num_rows, len(self.measured)))
        for place, name in enumerate(self.measured):
            column = batch[name]
            if self.kinds[name] == "date":
                micros = dates(column)[0].cast(pa.int64())
                matrix[:, place] = np.array(pc.fill_null(micros.cast(pa.float64(), safe=False), float("nan")))
            else:
                matrix[:, place] = numbers(column)[0]
        return matrix

    def see(self, batch: pa.RecordBatch) -> None:
        if not self.kinds:
            self.kinds = {field.name: _kind_of(field) for field in batch.schema}
        self.rows += batch.num_rows
        values = self.numbers_of(batch)
        for place, name in enumerate(self.measured):
            present = values[~np.isnan(values[:, place]), place]
            self.missing[name] += len(values) - len(present)
            if len(present):
                self.low[name] = min(self.low.get(name, np.inf), float(present.min()))
                self.high[name] = max(self.high.get(name, -np.inf), float(present.max()))
            if self.kinds[name] == "date" and (present % _DAY != 0).any():
                self.hours.add(name)
            if (present % 1 != 0).any():
                self.fractions.add(name)
        for name, kind in self.kinds.items():
            if kind == "categorical":
                self._count(name, batch[name])
        self._keep_some(batch, values)

    def _count(self, name: str, column: pa.Array) -> None:
        counter = self.levels.setdefault(name, Counter())
        for entry in pc.value_counts(texts(column)).to_pylist():
            if entry["values"] is None:
                self.missing[name] += entry["counts"]
            else:
                counter[entry["values"]] += entry["counts"]
        if len(counter) > _MAX_VALUES:
            raise UserError(
                f"column {name!r} has more than {_MAX_VALUES:,} different values: it names rows and is no category;"
                " name it in data.table.drop"
            )

    def _keep_some(self, batch: pa.RecordBatch, values: np.ndarray) -> None:
        """Keep the rows with the smallest hashes."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        self._sample.append((content_keys(columns, batch.num_rows)[:, 0], values))
        self._waiting += len(values)
        if self._waiting > 2 * self._wanted:
            self._sample = [self._smallest()]
            self._waiting = len(self._sample[0][0])

    @property
    def _wanted(self) -> int:
        return min(SAMPLE, max(1024, _SAMPLE_CELLS // max(1, len(self.measured))))

    def _smallest(self) -> tuple[np.ndarray, np.ndarray]:
        keys = np.concatenate([keys for keys, _ in self._sample])
        values = np.concatenate([values for _, values in self._sample])
        order = np.argsort(keys, kind="stable")[: self._wanted]
        return keys[order], values[order]

    def quantiles(self, name: str, shares: np.ndarray) -> np.ndarray:
        """Quantiles of a column with at least one value, from the sample; those of 0 and 1 are the exact extremes."""
        if len(self._sample) > 1 or len(self._sample[0][0]) > self._wanted:
            self._sample = [self._smallest()]
        values = self._sample[0][1][:, self.measured.index(name)]
        values = values[~np.isnan(values)]
        if not len(values):  # all values in the sample are missing
            values = np.array([self.low[name], self.high[name]])
        quantiles = np.quantile(values, shares, method="averaged_inverted_cdf")
        return np.where(shares == 0, self.low[name], np.where(shares == 1, self.high[name], quantiles))

    def heavy_tailed(self) -> set[str]:
        """Numeric columns with a tail much longer than the distance from the median to the quartile on that side."""
        columns = set()
        for name in self.measured:
            if self.kinds[name] == "numeric" and name in self.low and self.low[name] < self.high[name]:
                low, lower, middle, upper, high = self.quantiles(name, np.array([0.001, 0.25, 0.5, 0.75, 0.999]))
                if high - middle > _HEAVY * (upper - middle) or middle - low > _HEAVY * (middle - lower):
                    columns.add(name)
        return columns


def _kind_of(field: pa.Field) -> ColumnKind:
    if pa.types.is_timestamp(field.type):
        return "date"
    return "numeric" if pa.types.is_floating(field.type) or pa.types.is_integer(field.type) else "categorical"


class Moments:
    """The second pass: mean and deviation of the values that are not missing, after the logarithm.

    Blocks are merged as in Chan, Golub and LeVeque (1983, "Algorithms for computing the sample variance"), which avoids
    cancellation.
    """

    BLOCK = 4096

    def __init__(self, survey: Survey, logs: set[str]) -> None:
        self._logs = np.array([name in logs for name in survey.measured], bool)
        self._place = {name: place for place, name in enumerate(survey.measured)}
        width = len(survey.measured)
        self.count, self.mean, self.squares = np.zeros(width), np.zeros(width), np.zeros(width)

    def see(self, values: np.ndarray) -> None:
        """float64 [R, C], NaN where missing."""
        values = np.where(self._logs, symmetric_log(values), values)
        is_present = ~np.isnan(values)
        count = is_present.sum(0).astype(np.float64)
        divisor = np.maximum(count, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # values that cannot be scaled are reported by `fitted`
            mean = np.where(is_present, values, 0).sum(0) / divisor
            squares = (np.where(is_present, values - mean, 0) ** 2).sum(0)
            total = np.maximum(self.count + count, 1)
            delta = np.where(count > 0, mean - self.mean, 0)
            self.mean = self.mean + delta * count / total
            self.squares = self.squares + squares + delta**2 * self.count * count / total
        self.count = self.count + count

    def of(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation (of the population)."""
        place = self._place[name]
        return float(self.mean[place]), float(np.sqrt(self.squares[place] / max(self.count[place], 1)))


def fitted(
    survey: Survey, moments: Moments, logs: set[str], config: TransformConfig, unlearned: Mapping[str, str]
) -> Iterator[ColumnTransform]:
    """The transform of each column, in order. unlearned: columns that are not to be learned, and why."""
    for name, kind in survey.kinds.items():
        missing = survey.missing[name]
        indicator = config.indicators == "always" or (config.indicators == "seen" and missing > 0)
        if name in unlearned:
            yield Dropped(name, kind, None, unlearned[name], watched=False)
        elif missing == survey.rows:
            yield Dropped(name, kind, None, "it is always missing", gaps=True)
        elif kind == "categorical":
            yield _one_hot(name, survey, indicator, config)
        elif survey.low[name] == survey.high[name]:
            yield _constant(name, survey, indicator and missing > 0)
        elif kind == "date":
            mean, deviation = moments.of(name)
            if config.scale != "standard":
                mean, deviation = survey.low[name], survey.high[name] - survey.low[name]
            range_ = survey.low[name], survey.high[name], survey.rows - missing
            yield Calendar(name, mean, _DAY / deviation, name in survey.hours, indicator, *range_, missing > 0)
        else:
            yield _scaled(name, survey, moments.of(name), name in logs, indicator, config)


def _constant(name: str, survey: Survey, indicator: bool) -> ColumnTransform:
    value, gaps = survey.low[name], survey.missing[name] > 0
    if survey.kinds[name] == "numeric" and indicator:
        return Scaled(name, False, value, 0.0, 1.0, indicator=True, constant=value, gaps=gaps)
    return Dropped(name, survey.kinds[name], value, "it is always the same", gaps)


def _one_hot(name: str, survey: Survey, indicator: bool, config: TransformConfig) -> ColumnTransform:
    counts = survey.levels[name]
    if len(counts) == 1 and not survey.missing[name]:
        return Dropped(name, "categorical", next(iter(counts)), "it is always the same")
    ranked = sorted(counts, key=lambda level: (-counts[level], level))[: config.max_levels]
    levels = sorted(level for level in ranked if counts[level] >= config.min_share * survey.rows)
    if not levels:
        why = f"each of its {len(counts):,} values is rarer than min_share"
        return Dropped(name, "categorical", None, why, watched=False)
    rare = tuple(sorted(counts.keys() - set(levels)))
    new_share = sum(count == 1 for count in counts.values()) / survey.rows
    return OneHot(name, tuple(levels), indicator, rare, new_share, survey.missing[name] > 0)


def _scaled(
    name: str, survey: Survey, moments: tuple[float, float], log: bool, indicator: bool, config: TransformConfig
) -> ColumnTransform:
    """The transform of a column with at least two different numbers."""

    def logged(values: np.ndarray) -> np.ndarray:
        return symmetric_log(values) if log else values

    mean, deviation = moments
    middle = float(logged(survey.quantiles(name, np.array([0.5])))[0])
    fill = mean if config.fill == "mean" else middle
    low, high = logged(np.array([survey.low[name], survey.high[name]])).tolist()
    missing = survey.missing[name]
    facts = {"low": low, "high": high, "count": survey.rows - missing}
    facts |= {"gaps": missing > 0, "whole": name not in survey.fractions}
    if config.scale == "quantile":
        shares = np.linspace(0, 1, _KNOTS)
        knots, first, count = np.unique(logged(survey.quantiles(name, shares)), return_index=True, return_counts=True)
        ranks = (shares[first] + shares[first + count - 1]) / 2  # mid-rank of equal values
        return Scaled(name, log, fill, 0.0, 1.0, tuple(knots.tolist()), tuple(ranks.tolist()), indicator, **facts)
    shift, width = (mean, deviation) if config.scale == "standard" else (low, high - low)
    if not (np.isfinite(width) and width > 0 and np.isfinite(1 / width)):
        raise UserError(
            f"column {name!r} goes from {survey.low[name]} to {survey.high[name]}, which cannot be scaled; name it in"
            " data.transform.log or data.table.drop"
        )
    return Scaled(name, log, fill, shift, 1 / width, indicator=indicator, **facts)
