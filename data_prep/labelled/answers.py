"""Answers to questions about a context: texts and where they stand in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from data_prep.errors import UserError
from data_prep.labelled.examples import Answer
from data_prep.labelled.rows import Reading, Row
from data_prep.labelled.values import short

MOVED = "answers that do not stand where the file says, taken at the nearest place"
LOST = "answers that stand nowhere in their context, which count in scores and teach nothing"
EMPTY = "answers of no characters, read as none"
SEVERAL = "answers without a place that stand several times in their context, taken at the first"


def answers_of(row: Row, name: str, value: Any, context: str, reading: Reading) -> tuple[Answer, ...]:
    """The answers of a row, with places that are those of their texts; none for a question without an answer.

    value: [{text, answer_start}, …] as SQuAD has it; {text: […], answer_start: […]} as Hugging Face data sets have it;
    or texts without places. Answers that do not stand where they should are counted in `reading`.
    """
    answers = []
    for text, start in _pairs(row, name, value):
        if not text:
            reading.add(EMPTY, row.place)
            continue
        place = _place(text, start, context)
        if place < 0:
            reading.add(LOST, row.place)
        elif start is None:
            if context.find(text, place + 1) >= 0:
                reading.add(SEVERAL, row.place)
        elif place != start:
            reading.add(MOVED, row.place)
        answers.append(Answer(text, place))
    return tuple(answers)


def _place(text: str, start: int | None, context: str) -> int:
    """Where the text stands, nearest to `start`; −1: nowhere."""
    if start is None:
        return context.find(text)
    if start >= 0 and context.startswith(text, start):
        return start
    start = max(start, 0)
    before, after = context.rfind(text, 0, start + len(text)), context.find(text, start)
    if min(before, after) < 0:
        return max(before, after)
    return before if start - before <= after - start else after


def _pairs(row: Row, name: str, value: Any) -> Iterator[tuple[str, int | None]]:
    if isinstance(value, str):  # of separated values
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(value, list):
        raise UserError(f"{row.where}: {name!r} is {short(value)}; expected a list of answers, empty if there is none")
    for answer in value:
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (answer, None)
        if not isinstance(text, str) or isinstance(start, bool) or not isinstance(start, int | None):
            raise UserError(f"{row.where}: {name!r} holds {short(answer)}; expected a text and its place, answer_start")
        yield text, start
