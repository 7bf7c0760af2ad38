"""Sentences about the columns of a table that a person should read before anything is learned from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pyarrow as pa

from data_prep.corpus.schema import TableSchema
from data_prep.tables.evidence import HOPELESS, Evidence
from data_prep.tables.values import numbers

_LISTED = 3  # values
_LIKE_DATES = re.compile(  # 31.05.2024, 5/31/24, 31 May 2024, 2024-05, 2024-W22, each perhaps with a time
    r"(\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{4}-(\d{2}|W\d{2}(-\d)?)"
    r"|\d{1,2}[ -][A-Za-z]{3,9}\.?,?[ -]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})([ T,]+\d{1,2}:\d{2}.*)?"
)


def notes(schema: TableSchema, evidence: Mapping[str, Evidence], given: Mapping[str, str]) -> Iterator[str]:
    """given: kinds of columns that the recipe names."""
    for name, of_column in evidence.items():
        kind, called = schema.kinds.get(name), f"column {name!r}"
        if kind is None:  # the label
            continue
        if kind == "categorical" and name not in given:
            yield from (f"{called} {sentence}" for sentence in _against_the_most(of_column))
        missing = {
            marker: count
            for marker, count in of_column.missing.items()
            if kind != "categorical" or marker in of_column.markers
        }
        if missing:
            are = "is" if sum(missing.values()) == 1 else "are"
            yield f"{called}: {_listed(missing)} {are} read as missing (data.table.missing says what is)"
        if kind == "numeric":
            yield from (f"{called} {sentence}" for sentence in _as_numbers(of_column, name in schema.commas))
        if name in schema.unlearned:
            yield f"{called} is not learned: {schema.unlearned[name]}"
        elif kind != "categorical" and of_column.follows_rows:
            moves = "grows" if of_column.rises > of_column.falls else "falls"
            yield (
                f"{called} only {moves} from row to row: later rows lie beyond what is learned and score as unusual;"
                " name it in data.table.drop, or split by it (data.table.time) to see what becomes of it"
            )
        elif kind == "date":
            yield f"{called} is a date: rows of later times lie beyond what is learned (data.table.time splits by it)"
        elif kind == "numeric" and of_column.names_rows and not of_column.fractions and of_column.declared is None:
            yield f"{called} has a whole number of its own in most rows; if these are names, drop it (data.table.drop)"


def _against_the_most(evidence: Evidence) -> Iterator[str]:
    for what, odd, num_odd in (
        ("numbers", evidence.odd_numbers, min(evidence.no_numbers, evidence.no_comma_numbers)),
        ("dates", evidence.odd_dates, evidence.no_dates),
    ):
        if evidence.declared is None and 0 < num_odd <= HOPELESS * evidence.count:
            yield (
                f"is categorical, though {evidence.count - num_odd:,} of {evidence.count:,} values are {what}:"
                f" {_listed(odd)} {'is' if num_odd == 1 else 'are'} not; name markers of missing values in"
                " data.table.missing, or the kind in data.table.kinds to reject such rows"
            )
    like_dates = [value for value in evidence.odd_numbers if _LIKE_DATES.fullmatch(value)]
    if evidence.declared is None and like_dates and len(like_dates) == len(evidence.odd_numbers):
        yield (
            f"is categorical, though its values look like dates ({like_dates[0]!r}): only those of ISO 8601 are read as"
            " dates (2024-05-31, or 2024-05-31 13:30)"
        )


def _as_numbers(evidence: Evidence, comma: bool) -> Iterator[str]:
    if comma:
        yield f"is read with decimal commas ({evidence.commas:,} values have one)"
        return
    example = next((value for value in evidence.decorated if value), None)
    if example is not None:
        read = numbers(pa.array([example]))[0][0]
        yield f"has {evidence.decorated['']:,} values such as {example!r}, which is read as {read:.12g}"


def _listed(counts: Mapping[str, int]) -> str:
    """Values with their numbers of rows, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{value[:40]!r} ({count:,})" for value, count in ranked[:_LISTED])
    return shown + (f" and {len(ranked) - _LISTED} more" if len(ranked) > _LISTED else "")
