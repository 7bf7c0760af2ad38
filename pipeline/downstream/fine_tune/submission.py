"""Predictions for rows without labels (`predict` of a task), in files as test servers and official scripts take them.

GLUE     SST-2.tsv: `index` and `prediction`, labels as the task's files have them (gluebenchmark.com/faq)
CLUE     afqmc_predict.json: {"id": 0, "label": "1"}, a row a line in the order of the test file; of FewCLUE's chid
         {"id": 0, "answer": 3}, the number of a choice from 0 (examples of submissions in their repositories)
SQuAD    squad2.json: {id: text}, "" for no answer; na-prob-squad2.json: {id: probability of no answer}, where questions
         may have none (evaluate-v2.0.py)

The end of the name of `submit` says which: .tsv; .json, a row a line of labels, numbers or choices, and one object of
texts; .jsonl, a row a line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.task import ROW_HEADS, TaskFile

NO_ANSWER = "na-prob"


def write(
    name: str,
    task: TaskFile,
    examples: Sequence[Example],
    answers: Sequence[Any],
    folder: Path,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    no_answer: Sequence[float] | None = None,
) -> list[str]:
    """Write a file for each `submit`, and for each part and language of the other rows; their names.

    name: of the task, for parts without a file. answers: labels by name. bounds: of scores; what was predicted beyond
    them is put there. no_answer: probabilities that questions have none, where some have none. UserError, and nothing
    is written, where two files would have one name, or two rows of a file one id.
    """
    groups = _groups(name, task, examples)
    ids = {file: [_id(examples[row], place) for place, row in enumerate(rows)] for file, rows in groups.items()}
    for file in groups:
        if _is_object(file, task):
            _check_ids(file, ids[file])
    folder.mkdir(parents=True)
    written = {label: key for key, label in task.classes.items()}
    files = []
    for file, rows in groups.items():
        values = [_value(answers[row], task, written, bounds) for row in rows]
        files.append(file)
        if file.endswith(".tsv"):
            cells = (f"{own}\t{_cell(value)}" for own, value in zip(ids[file], values, strict=True))
            _write(folder / file, ["index\tprediction", *cells])
        elif _is_object(file, task):
            _write(folder / file, [_json(dict(zip(ids[file], values, strict=True)))])
        else:
            keyed = ({"id": _number(own), task.label: value} for own, value in zip(ids[file], values, strict=True))
            _write(folder / file, map(_json, keyed))
        if no_answer is not None:
            files.append(f"{NO_ANSWER}-{file}")
            _write(folder / files[-1], [_json({own: no_answer[row] for own, row in zip(ids[file], rows, strict=True)})])
    return files


def _groups(name: str, task: TaskFile, examples: Sequence[Example]) -> dict[str, list[int]]:
    """The rows of each file."""
    many = len({example.language for example in examples if not example.submit}) > 1
    end = ".tsv" if task.predicts in ROW_HEADS else ".json"
    of_file: dict[str, tuple[str, str, str]] = {}
    groups: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        of = (example.submit, "", "") if example.submit else ("", example.part, example.language)
        file = example.submit or "-".join(filter(None, [name, example.part, example.language if many else ""])) + end
        if of_file.setdefault(file, of) != of:
            raise UserError(
                f"two files of predictions would be called {file}; give each part of predict its own submit."
            )
        groups.setdefault(file, []).append(row)
    return groups


def _is_object(file: str, task: TaskFile) -> bool:
    """Whether a file is one JSON object, with a value for each id."""
    return file.endswith(".json") and task.predicts not in ROW_HEADS


def _check_ids(file: str, ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(own for own in ids if ids.count(own) > 1)
        raise UserError(f"two rows of {file} would have the id {twice!r}; give them files of their own, by submit.")


def _id(example: Example, place: int) -> str:
    """The row's own, or, where file and line name it, its number in the file of predictions, from 0."""
    return example.id if example.names_itself else str(place)


def _number(own: str) -> int | str:
    """An id as JSON has it."""
    return int(own) if own.isascii() and own.isdecimal() and str(int(own)) == own else own


def _value(answer: Any, task: TaskFile, written: dict[str, str], bounds: tuple[float, float]) -> Any:
    """An answer as the task's files have it."""
    if isinstance(answer, float):
        return min(max(answer, bounds[0]), bounds[1])
    if task.predicts == "choice":
        return None if answer is None else int(answer)
    return written.get(answer, answer) if isinstance(answer, str) and task.predicts == "class" else answer


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
