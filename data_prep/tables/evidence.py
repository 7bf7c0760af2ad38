"""Evidence for a column's kind in its values, counted file by file.

In text files, a column is numeric if all of its values in all files are numbers or missing, a date if all are dates or
missing, and otherwise categorical; a column without values is numeric. Typed files (Parquet, Arrow, ARFF) state the
kind. `data_prep.tables.column_notes` reports what a person should know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.schema import ColumnKind
from data_prep.tables.values import dates, numbers, without

HOPELESS = 0.5  # share of values of another kind from which on nobody meant the column to be of this one
_KEPT = 20  # distinct values of a file that are kept as examples
_LEAST = 20  # rows from which on a column can be said to name rows, or to follow their order
_OF_ITS_OWN = 0.9  # share of distinct values
_OUT_OF_ORDER = 0.01  # share of rows
_DECORATION = r"[^0-9.eE+\-\s]|^[+-]?0\d"
_COUNTERS = ("missing", "decorated", "odd_numbers", "odd_dates")


@dataclass
class Evidence:
    """Counts of a column's values; those of several files are added."""

    declared: ColumnKind | None = None
    markers: tuple[str, ...] = ("",)
    """Of missing values, if the column is categorical."""
    measure_markers: tuple[str, ...] = ("",)
    """Of missing values, if the column is not."""
    decimal: str | None = None
    """What decimals follow, if that is given."""
    expects_commas: bool = False
    """Whether a value such as 1,500 has a decimal comma rather than thousands: where semicolons part the columns."""
    count: int = 0
    """Values that are not missing."""
    missing: Counter[str] = field(default_factory=Counter)
    """Rows by marker of missing values, other than empty ones."""
    odd_numbers: Counter[str] = field(default_factory=Counter)
    odd_dates: Counter[str] = field(default_factory=Counter)
    """Some values that are no numbers, or no dates."""
    no_numbers: int = 0
    no_comma_numbers: int = 0
    """Values that are no numbers, where decimals follow a point or a comma."""
    no_dates: int = 0
    fractions: int = 0
    """Numbers that are not whole."""
    commas: int = 0
    """Values with a comma."""
    decorated: Counter[str] = field(default_factory=Counter)
    """Some numbers with a currency, thousands or percent sign, colons or zeros before, and as "" the number of all."""
    distinct: int = 0
    """Distinct values, added over batches."""
    pairs: int = 0
    rises: int = 0
    falls: int = 0
    """Neighbouring rows, and those whose value rises or falls."""
    last: float | None = None

    def see(self, column: pa.Array) -> None:
        """Count a batch of values."""
        if pa.types.is_string(column.type):
            marked = pc.fill_null(pc.is_in(column, pa.array(self.measure_markers, pa.string())), False)
            _add(self.missing, column.filter(marked), None)
            column = without(column, self.measure_markers)
        present = len(column) - column.null_count
        if not present:
            return
        self.count += present
        self.distinct += pc.count_distinct(column).as_py()
        if pa.types.is_string(column.type):
            self._see_numbers(column, present)
            self._see_dates(column, present)
        if self.kind == "numeric":
            self._see_order(numbers(column, self.comma)[0])
        elif self.kind == "date":
            micros = dates(column)[0].cast(pa.int64())
            self._see_order(np.array(pc.fill_null(pc.cast(micros, pa.float64(), safe=False), float("nan"))))

    def _see_numbers(self, column: pa.Array, present: int) -> None:
        if min(self.no_numbers, self.no_comma_numbers) > HOPELESS * (self.count - present) > 0:
            self.no_numbers, self.no_comma_numbers = self.no_numbers + present, self.no_comma_numbers + present
            return
        bad = numbers(column)[1]
        commas = pc.sum(pc.match_substring(column, ",")).as_py()
        self.commas += commas
        self.no_numbers += int(bad.sum())
        bad_with_comma = numbers(column, comma=True)[1] if bad.any() or commas else _no_comma_number(column)
        self.no_comma_numbers += int(bad_with_comma.sum())
        _add(self.odd_numbers, column.filter(pa.array(bad & bad_with_comma)), _KEPT)
        is_decorated = pc.fill_null(pc.match_substring_regex(column, _DECORATION), False)
        decorated = column.filter(pc.and_(is_decorated, pa.array(~bad)))
        if len(decorated):
            self.decorated[""] += len(decorated)
            _add(self.decorated, decorated, _KEPT)

    def _see_dates(self, column: pa.Array, present: int) -> None:
        begin = column.slice(0, 64)  # a quick check that rules out most columns that are no dates
        if self.no_dates > HOPELESS * (self.count - present) > 0 or dates(begin)[1].mean() > HOPELESS:
            self.no_dates += present
            return
        bad = dates(column)[1]
        self.no_dates += int(bad.sum())
        _add(self.odd_dates, column.filter(pa.array(bad)), _KEPT)

    def _see_order(self, values: np.ndarray) -> None:
        values = values[np.isfinite(values)]
        self.fractions += int((values % 1 != 0).sum())
        if self.last is not None:
            values = np.concatenate([[self.last], values])
        if len(values):
            with np.errstate(over="ignore"):
                steps = np.diff(values)
            self.pairs += len(steps)
            self.rises += int((steps > 0).sum())
            self.falls += int((steps < 0).sum())
            self.last = float(values[-1])

    # -- what follows -------------------------------------------------------------------------------------------------

    @property
    def comma(self) -> bool:
        """Whether decimals follow a comma."""
        if self.decimal is not None or self.no_comma_numbers:
            return self.decimal == ","
        return self.no_numbers > 0 or (self.expects_commas and self.commas > 0)

    @property
    def written(self) -> ColumnKind | None:
        """Kind of all values, whatever is declared: numeric or date; None if there are no values, or others."""
        if not self.count or self.declared is not None:
            return None if self.declared == "categorical" else self.declared
        if not (self.no_comma_numbers if self.comma else self.no_numbers):
            return "numeric"
        return None if self.no_dates else "date"

    @property
    def kind(self) -> ColumnKind | None:
        """The kind; None if there were no values."""
        return self.declared or (self.written or "categorical" if self.count else None)

    @property
    def names_rows(self) -> bool:
        """Whether most rows have a value of their own."""
        return self.count >= _LEAST and self.distinct >= _OF_ITS_OWN * self.count

    @property
    def follows_rows(self) -> bool:
        """Whether values grow, or fall, from row to row."""
        moves, back = max(self.rises, self.falls), min(self.rises, self.falls)
        return moves >= _LEAST and back <= _OUT_OF_ORDER * self.pairs

    @property
    def counts_rows(self) -> bool:
        """Whether they are whole numbers, each above the one before."""
        return self.follows_rows and not self.fractions and self.rises == self.pairs

    def to_json(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> Evidence:
        counters = {name: Counter(value[name]) for name in _COUNTERS}
        markers = {name: tuple(value[name]) for name in ("markers", "measure_markers")}
        return Evidence(**{**value, **counters, **markers})

    @staticmethod
    def of_files(files: Iterable[Evidence]) -> Evidence:
        """The counts of several files; `declared` is that of the first that declares a kind."""
        whole = Evidence()
        for part in files:
            whole.declared = whole.declared or part.declared
            whole.expects_commas = whole.expects_commas or part.expects_commas
            whole.markers, whole.measure_markers, whole.decimal = part.markers, part.measure_markers, part.decimal
            for name, value in vars(part).items():
                if isinstance(value, int) and not isinstance(value, bool):
                    setattr(whole, name, getattr(whole, name) + value)
            for name in _COUNTERS:
                getattr(whole, name).update(getattr(part, name))
        return whole


def _no_comma_number(column: pa.Array) -> np.ndarray:
    """bool [R]: which plain numbers are none where decimals follow a comma: those with a point."""
    return np.asarray(pc.fill_null(pc.match_substring(column, "."), False))


def _add(counter: Counter[str], values: pa.Array, most: int | None) -> None:
    """Count values, of which at most `most` distinct ones are kept."""
    for entry in pc.value_counts(values).to_pylist():
        if entry["values"] is not None and (most is None or entry["values"] in counter or len(counter) < most):
            counter[entry["values"]] += entry["counts"]
