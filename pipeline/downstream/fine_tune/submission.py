"""Predictions for rows without labels (`predict` of a task), in files as test servers and official scripts take them.

GLUE     SST-2.tsv: `index` and `prediction`, labels as the task's files have them (gluebenchmark.com/faq)
SQuAD    squad2.json: {id: text}, "" for no answer; na-prob-squad2.json: {id: probability of no answer}, where questions
         may have none (evaluate-v2.0.py)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.labelled.examples import Example
from data_prep.labelled.task import TaskFile

NO_ANSWER = "na-prob"
_TABLES = ("class", "score", "choice")  # heads of which a row's answer is a cell


def write(
    name: str,
    task: TaskFile,
    examples: Sequence[Example],
    answers: Sequence[Any],
    folder: Path,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    no_answer: Sequence[float] | None = None,
) -> list[str]:
    """Write a file for each part, and language, of the rows; their names. name: of the task, for parts without a file.

    answers: labels by name. bounds: of scores; what was predicted beyond them is put there. no_answer: probabilities
    that questions have none, where some have none.
    """
    folder.mkdir(parents=True)
    groups: dict[tuple[str, str], list[int]] = {}
    for row, example in enumerate(examples):
        groups.setdefault((example.part, example.language), []).append(row)
    many = len({language for _, language in groups}) > 1
    written = {label: key for key, label in task.classes.items()}
    files = []
    for (part, language), rows in groups.items():
        is_table = task.predicts in _TABLES
        own = "-".join(filter(None, [name, part, language if many else ""])) + (".tsv" if is_table else ".json")
        file = next((each.submit for each in task.parts("predict") if each.part == part and each.submit), own)
        ids = [examples[row].id if task.id or task.layout == "squad" else str(place) for place, row in enumerate(rows)]
        files.append(file)
        if is_table:
            cells = [_cell(answers[row], written, bounds) for row in rows]
            lines = ["index\tprediction", *("\t".join(pair) for pair in zip(ids, cells, strict=True))]
            (folder / file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            continue
        _write_json(folder / file, {id_: answers[row] for id_, row in zip(ids, rows, strict=True)})
        if no_answer is not None:
            files.append(f"{NO_ANSWER}-{file}")
            _write_json(folder / files[-1], {id_: no_answer[row] for id_, row in zip(ids, rows, strict=True)})
    return files


def _cell(answer: Any, written: dict[str, str], bounds: tuple[float, float]) -> str:
    if isinstance(answer, float):
        return f"{min(max(answer, bounds[0]), bounds[1]):.3f}"
    return written.get(str(answer), str(answer))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
