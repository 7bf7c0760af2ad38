"""A fine-tuned network asked without files: rows of named values in, an answer to each out.

rows ─► examples, as a file's ─► `FineTuned.predict` ─► {"predicted": …, "score": …}
                                                 └► what is cut, as a warning in the log

Where the rows of files are files themselves, such as recordings, those that are sent hold the contents of these.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.kinds import kind_of
from data_prep.labelled.examples import TEXT
from data_prep.labelled.layouts import files, squad, tokens
from data_prep.labelled.loading import examples_of
from data_prep.labelled.task import TaskFile, columns_in, task_of
from pipeline.downstream.counted import said
from pipeline.downstream.fine_tune.exported import FineTuned

_log = logging.getLogger(__name__)


def answers(network: FineTuned, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An answer to each row, as `FineTuned.lines` has it, without the `score` that numbers have none of.

    UserError, with the number of the row, for one without the columns of the task, or with no value in one.
    """
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    examples = examples_of(task_of_rows(network), plain, network.cleaning)
    predicted = network.predict(examples)
    for remark in said(predicted.counted):
        _log.warning("%s", remark)
    lines = network.lines(examples, predicted)
    return [{"predicted": line["predicted"]} for line in lines] if network.shape.head == "score" else lines


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: lists for arrays, and None for what marks a missing one (NaN, NA, NaT)."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def task_of_rows(network: FineTuned) -> TaskFile:
    """How rows are laid out that stand in no file, as settings of a task file."""
    given = {name: value for name, value in network.reads.items() if value is not None}
    task = task_of(given, "the task of the network")
    if task.kind != TEXT:
        inputs = _inputs_of_files(task)
    else:
        inputs = task.inputs or list(squad.COLUMNS if task.layout == "squad" else (task.columns or [tokens.WORDS])[:1])
    return task.model_copy(update={"inputs": inputs, "layout": "table", "id": "", "language": ""})


def _inputs_of_files(task: TaskFile) -> list[str]:
    """The columns with contents of files: those that paths stand in, and where these are made of several, what a file
    holds (recording)."""
    noun = kind_of(task.kind).file_noun or files.FILE
    named = [noun if "{" in name else name for name in task.inputs or [files.FILE]]
    return [name if named.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(named, 1)]


def example_of(network: FineTuned) -> list[dict[str, Any]]:
    """Two rows that can be answered."""
    task = task_of_rows(network)
    names = columns_in(task.inputs)
    row: dict[str, Any] = dict.fromkeys(names, "A text.")
    if task.kind != TEXT:
        row = dict.fromkeys(names, kind_of(task.kind).example_file())
    elif network.shape.head == "tags":
        row = {name: ["A", "text", "."] for name in names}
    options = [kind_of(task.kind).example_file()] * 2 if task.kind != TEXT else ["one", "another"]
    if network.shape.head == "choice" and isinstance(task.choices, str):
        row[task.choices] = options
    elif network.shape.head == "choice":
        row |= {name: options[number % 2] for number, name in enumerate(task.choices or ())}
    return [row, {**row, **dict.fromkeys(task.optional)}]
