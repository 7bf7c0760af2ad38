"""A task in a small YAML file: rows of any fields, how they become prompts, and what is right.

    test: dev.tsv                              # .jsonl .csv .tsv, also .gz; beside this file, or a whole path
    train: train.tsv                           # where shots are drawn from; without it there are none
    prompt: "Review: {sentence}\\nSentiment:"   # fields of a row in braces
    choices: {"0": negative, "1": positive}    # words for each label
    label: label                               # the field that says which is right

Of multiple choice, `choices` is the name of a field with a list of texts, and `label` holds the number of the right
one (from 0) or its text. Without `choices` an answer is written freely, and `label` holds it, or a list of those that
count.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from data_prep.errors import UserError
from data_prep.labelled.files import fields_of
from data_prep.opening.files import UnfitError, read
from data_prep.settings import Settings, checked

LARGEST = 1 << 20  # bytes of a task file


class Task(Settings):
    """The settings of a task file."""

    test: str
    """Rows that are scored."""
    train: str | None = None
    """Rows that shots are drawn from; null: there are none, and it is zero-shot alone."""
    prompt: str
    """What a row becomes; fields in braces."""
    label: str = "label"
    """Field with the right answer."""
    choices: dict[str, str] | str | None = None
    """Words for each label; or the field with a row's own choices; null: answers are written freely."""
    about: str = ""
    """What the task is, for the report."""
    description: str = ""
    """Text before the first shot."""
    delimiter: str = " "
    """Between a prompt and its answer."""
    between: str = "\n\n"
    """Between shots."""
    unconditional: str = ""
    """Prompt by which the choices' prior is measured; empty: nothing but what texts begin with."""
    content_free: list[str] = Field(default=["N/A", "", "[MASK]"], min_length=1)
    """What fields hold in prompts that say nothing, by which answers are calibrated (Zhao et al. 2021)."""
    until: list[str] = Field(default=["\n"])
    """Texts before which a written answer ends."""
    licence: str = "not stated"
    """Licence of the rows, for the records."""


@dataclass(frozen=True)
class Question:
    """A row as a prompt. choices: its texts, empty where the answer is free. gold: number of the right one, or −1.

    answers: texts that count as right; the first one stands in shots.
    """

    prompt: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    gold: int = -1


@dataclass(frozen=True)
class TaskData:
    """A task and its rows. `empty`: prompts that say nothing, one for each text of `content_free`."""

    task: Task
    test: list[Question]
    train: list[Question]
    empty: list[str]

    @property
    def has_labels(self) -> bool:
        """Whether all rows have the same choices: labels."""
        return isinstance(self.task.choices, dict)


def files_of(path: Path) -> list[Path]:
    """The file and those that it names."""
    task = _read(path)
    return [path, *(_beside(path, name) for name in (task.test, task.train) if name is not None)]


def load(path: Path) -> TaskData:
    """The task of a file. UserError, with file and line, for what cannot be meant."""
    task = _read(path)
    fields = _fields(path, task.prompt)
    test, train = (
        list(_questions(path, task, fields, _beside(path, name))) if name is not None else []
        for name in (task.test, task.train)
    )
    empty = [task.prompt.format_map(dict.fromkeys(fields, text)) for text in task.content_free]
    return TaskData(task, test, train, empty)


def _read(path: Path) -> Task:
    try:
        values = yaml.safe_load(read(path, LARGEST))
    except UnfitError as error:
        raise UserError(f"{path}: {error}; name the file of a task.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: is no YAML ({' '.join(str(error).split())[:200]}); mend it.") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{path}: holds no settings; write test, prompt and label, one a line.")
    choices = values.get("choices")
    if isinstance(choices, dict):
        for label, words in choices.items():
            if isinstance(label, bool) or not isinstance(label, str | int) or not isinstance(words, str | int):
                raise UserError(
                    f"{path}: choices: {label!r}: {words!r} is no label with its words; put both in quotes."
                )
        values["choices"] = {str(label): str(words) for label, words in choices.items()}
    task = checked(Task, values, str(path))
    if isinstance(task.choices, dict):
        if len(task.choices) < 2:
            raise UserError(f"{path}: choices: {len(task.choices)} is no choice; give two labels or more.")
        if len(set(task.choices.values())) < len(task.choices):
            raise UserError(f"{path}: choices: two labels have the same words, and nobody could tell them apart.")
    return task


def _beside(path: Path, name: str) -> Path:
    """A file by its path, from the task file's folder."""
    return path.parent / Path(name).expanduser()


def _fields(path: Path, template: str) -> list[str]:
    """The fields of a template: plain names in braces."""
    fields = []
    try:
        for _, name, spec, conversion in string.Formatter().parse(template):
            if name is None:
                continue
            if not name.isidentifier() or spec or conversion:
                raise ValueError(f"{{{name}}} names no field")
            fields.append(name)
    except ValueError as error:
        raise UserError(f"{path}: prompt: {error}; write names of fields in braces, and {{{{ for a brace.") from None
    if not fields:
        raise UserError(f"{path}: prompt: has no field of a row in braces, so that all rows would be asked the same.")
    return list(dict.fromkeys(fields))


def _questions(path: Path, task: Task, fields: Sequence[str], file: Path) -> Iterator[Question]:
    own = [task.choices] if isinstance(task.choices, str) else []
    rows = fields_of(file, [*fields, *own, task.label])
    if not rows:
        raise UserError(f"{file}: holds no row.")
    for line, row in rows:
        where = f"{file} line {line}"
        for name in (*fields, *own, task.label):
            if row.get(name) is None:
                raise UserError(f"{where}: has no {name!r}, which {path.name} names; it has {', '.join(row)}.")
        yield _question(where, task, fields, row)


def _question(where: str, task: Task, fields: Sequence[str], row: Mapping[str, Any]) -> Question:
    prompt = task.prompt.format_map({name: _text(where, name, row[name]) for name in fields})
    label = row[task.label]
    if task.choices is None:
        answers = label if isinstance(label, list) and label else [label]
        return Question(prompt, tuple(_text(where, task.label, answer) for answer in answers))
    if isinstance(task.choices, dict):
        names = list(task.choices)
        if str(label).strip() not in names:
            raise UserError(f"{where}: the label {label!r} is not among choices: {', '.join(names)}.")
        choices, gold = tuple(task.choices.values()), names.index(str(label).strip())
    else:
        choices = _list(where, task.choices, row[task.choices])
        gold = _number(where, task.label, label, choices)
    return Question(prompt, (choices[gold],), choices, gold)


def _number(where: str, name: str, label: Any, choices: Sequence[str]) -> int:
    """Which choice a label means: its text, or its number from 0."""
    if isinstance(label, str) and label in choices:
        return choices.index(label)
    is_number = (isinstance(label, int) and not isinstance(label, bool)) or (
        isinstance(label, str) and label.isdecimal()
    )
    if is_number and int(label) < len(choices) and int(label) >= 0:
        return int(label)
    raise UserError(f"{where}: {name!r} is {label!r}, neither the text nor the number, from 0, of a choice.")


def _list(where: str, name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # of separated values
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or len(value) < 2:
        raise UserError(f"{where}: {name!r} is no list of two choices or more; write it as JSON has lists.")
    choices = tuple(_text(where, name, choice) for choice in value)
    if len(set(choices)) < len(choices):
        raise UserError(f"{where}: two choices in {name!r} are the same.")
    return choices


def _text(where: str, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: {name!r} is {json.dumps(value)[:60]}; expected a text or a number.")
    return str(value)
