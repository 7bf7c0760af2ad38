"""A task in a small YAML file: rows of any fields, how they become prompts, and what is right.

    test: dev.tsv                              # beside this file, or a whole path
    train: train.tsv                           # where shots are drawn from; without it there are none
    prompt: "Review: {sentence}\\nSentiment:"   # fields of a row in braces
    choices: {"0": negative, "1": positive}    # words for each label
    label: label                               # the field that says which is right

Of multiple choice, `choices` is the name of a field with a list of texts, and `label` holds the number of the right
one (from 0) or its text, in all rows alike, or one of `labels`, which says what number each stands for. Without
`choices` an answer is written freely, and `label` holds it, or a list of those that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import UserError
from data_prep.labelled import choices, task
from data_prep.labelled.heads import Columns, chosen, own_choices, value_of
from data_prep.labelled.loading import is_ignored, rows_of
from data_prep.labelled.rows import Reading, Rejects, Row
from data_prep.labelled.task import TaskFile
from data_prep.labelled.values import as_text, known_label, spelled

Task = TaskFile
_UNUSED = ("validation", "predict", "split", "metrics", "step")  # settings that say nothing here


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
class _Open:
    """A question whose label is the text of a choice or its number, which all rows of the task decide together."""

    prompt: str
    right: choices.RightChoice

    def with_gold(self, gold: int) -> Question:
        options = tuple(self.right.options)
        return Question(self.prompt, (options[gold],), options, gold)


@dataclass(frozen=True)
class TaskData:
    """A task and its rows. `empty`: prompts that say nothing, one for each text of `content_free`. `notes`: what is not
    used of the file and of its rows."""

    task: Task
    test: list[Question]
    train: list[Question]
    empty: list[str]
    notes: list[str]

    @property
    def has_labels(self) -> bool:
        """Whether all rows have the same choices: labels."""
        return isinstance(self.task.choices, dict)


def files_of(path: Path) -> list[Path]:
    """The file and those that it names."""
    return [path, *task.files_of(_read(path), path.parent, ("test", "train"))]


def load(path: Path) -> TaskData:
    """The task of a file. UserError, with file and line, for what cannot be meant."""
    settings, reading = _read(path), Reading()
    asked = {split: list(_questions(path, settings, split, reading)) for split in ("test", "train")}
    rights = [question.right for of_split in asked.values() for question in of_split if isinstance(question, _Open)]
    golds = iter(choices.numbers(rights, settings.label))
    test, train = (
        [question.with_gold(next(golds)) if isinstance(question, _Open) else question for question in of_split]
        for of_split in asked.values()
    )
    fields = task.fields_of(settings.prompt)
    empty = [task.filled(settings.prompt, dict.fromkeys(fields, text)) for text in settings.content_free]
    if unused := [name for name in _UNUSED if name in settings.model_fields_set]:
        reading.notes.append(f"{', '.join(unused)} of {path.name} is not used: test is scored, by accuracy")
    return TaskData(settings, test, train, empty, reading.remarks())


def _read(path: Path) -> Task:
    settings = task.read_task(path)
    for name in ("test", "prompt"):
        if not getattr(settings, name):
            raise UserError(f"{path}.{name}: missing; set it (known keys: {', '.join(sorted(Task.model_fields))}).")
    if settings.layout not in ("table", "hub"):
        raise UserError(f"{path}: layout: {settings.layout} has no row for a prompt; give a table.")
    if not task.fields_of(settings.prompt):
        raise UserError(f"{path}: prompt: has no field of a row in braces, so that all rows would be asked the same.")
    if settings.label in task.fields_of(settings.prompt):
        raise UserError(f"{path}: prompt: {settings.label!r} is the column with the answer; leave it out of there.")
    if settings.choices is None and settings.predicts == "class" and settings.classes:  # its labels are their words
        return settings.model_copy(update={"choices": settings.classes})
    return settings


def _questions(path: Path, settings: Task, split: str, reading: Reading) -> Iterator[Question | _Open]:
    fields = task.fields_of(settings.prompt)
    own = [settings.choices] if isinstance(settings.choices, str) else settings.choices or []
    wanted = [*fields, *([] if isinstance(own, dict) else own), settings.label]
    rejects, count = Rejects(settings.max_rejects, reading), 0
    for row in rows_of(settings, split, path.parent, wanted, reading):
        try:
            if isinstance(row, UserError):
                raise row
            if is_ignored(settings, row, settings.label, path.name, reading):
                continue
            question = _question(row, path.name, settings, fields)
        except UserError as error:
            rejects.add(error)
        else:
            count += 1
            yield question
    if not count and getattr(settings, split):
        raise UserError(f"{path}: {split}: its files hold no row that can be asked.")


def _question(row: Row, name: str, settings: Task, fields: Sequence[str]) -> Question | _Open:
    values = {field: as_text(row.where, field, value_of(row, field, name)) for field in fields}
    prompt = task.filled(settings.prompt, values)
    given, label = settings.choices, value_of(row, settings.label, name)
    if given is None:
        answers = label if isinstance(label, list) and label else [label]
        return Question(prompt, tuple(as_text(row.where, settings.label, answer) for answer in answers))
    if isinstance(given, dict):
        gold = list(given).index(known_label(row.where, settings.label, spelled(label).strip(), given, name))
        return Question(prompt, (tuple(given.values())[gold],), tuple(given.values()), gold)
    options = own_choices(row, given, name, None)
    columns = Columns(tuple(fields), settings.label, tuple(given), settings.classes or None, name)
    right = chosen(row, columns, options, None)
    if isinstance(right, int):
        return Question(prompt, (options[right],), options, right)
    return _Open(prompt, choices.RightChoice(row.where, right, options))
