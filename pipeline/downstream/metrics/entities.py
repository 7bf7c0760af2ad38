"""F1 of entities and chunks, as conlleval computes it (Tjong Kim Sang and Buchholz 2000; script of 2004-01-26).

An entity is correct if its first word, last word and type are. Truth and predictions may be tagged in IOB1, IOB2 (BIO),
IOE, IOBES, BILOU or BMES: one set of rules reads them all. An entity may start without a B, as in IOB1 or in a faulty
prediction. Types may contain hyphens. Entities never cross a sentence boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Measured, Values, check_rows, f1_of, of_sums, percent

OUTSIDE = "O"
_BEGIN, _INSIDE, _END, _SINGLE = "B", "I", "E", "S"
_PREFIXES = {**{prefix: prefix for prefix in "BIES"}, "L": _END, "U": _SINGLE, "M": _INSIDE}

Tags = Sequence[Sequence[str]]
"""The tag of each word of each sentence."""
Entity = tuple[int, int, str]
"""First word, last word, type."""


def entity_f1(truth: Tags, predicted: Tags) -> Measured:
    """Micro-averaged F1 over entities, with precision and recall. Rows are sentences."""
    counted = np.array([_counts(*pair) for pair in _pairs(truth, predicted)], np.float64)

    def value(sums: np.ndarray) -> Values:
        right, found, true = sums[..., 0], sums[..., 1], sums[..., 2]
        return {
            "entity-f1": f1_of(right, found, true),
            "entity-precision": percent(right, found),
            "entity-recall": percent(right, true),
        }

    return of_sums(counted, value)


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of a sentence. UserError for a tag that follows none of the schemes."""
    read = [_read(tag) for tag in tags]
    spans: set[Entity] = set()
    begin = 0
    for place, (prefix, kind) in enumerate(read):
        if prefix == OUTSIDE:
            continue
        before, after = read[place - 1] if place else (OUTSIDE, ""), (*read, (OUTSIDE, ""))[place + 1]
        if before[0] in (OUTSIDE, _END, _SINGLE) or prefix in (_BEGIN, _SINGLE) or before[1] != kind:
            begin = place
        if after[0] in (OUTSIDE, _BEGIN, _SINGLE) or prefix in (_END, _SINGLE) or after[1] != kind:
            spans.add((begin, place, kind))
    return spans


def _read(tag: str) -> tuple[str, str]:
    prefix, _, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if prefix not in _PREFIXES:
        raise UserError(
            f"{tag!r} is not a tag of an entity; expected {OUTSIDE}, or {', '.join(_PREFIXES)}, a hyphen and a type. "
            "Use accuracy for tags such as parts of speech."
        )
    return _PREFIXES[prefix], kind


def _pairs(truth: Tags, predicted: Tags) -> Iterator[tuple[set[Entity], set[Entity]]]:
    check_rows(truth, predicted)
    for row, (tags, guesses) in enumerate(zip(truth, predicted, strict=True)):
        if len(tags) != len(guesses):
            raise ValueError(
                f"sentence {row} has {len(tags)} words and {len(guesses)} predicted tags; expected one each"
            )
        known = [(tag, guess) for tag, guess in zip(tags, guesses, strict=True) if tag is not None]
        yield entities([tag for tag, _ in known]), entities([guess for _, guess in known])


def _counts(truth: set[Entity], predicted: set[Entity]) -> tuple[int, int, int]:
    return len(truth & predicted), len(predicted), len(truth)
