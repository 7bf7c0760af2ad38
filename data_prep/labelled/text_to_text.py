"""Labelled examples as texts from texts, as T5 was given them (Raffel et al. 2020, appendix D, and the code of `t5`).

    {"sentence": "The course is jumping well."}, 1   ─►   "cola sentence: The course is jumping well."  "acceptable"

A text is the task's name, then each field's name and value, in the order of the alphabet. What a network writes counts
as a label if it is spelled as one; any other text is `NO_LABEL`, which is wrong whatever the truth is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_prep.labelled.task import SPLIT_NAMES, TaskFile

NO_LABEL = -1  # of a text that names no label, and of examples whose label is not known
UNKNOWN = "<unk>"  # the target of these


@dataclass(frozen=True)
class TextTask:
    """A task of GLUE by T5's name. labels: their texts, by GLUE's numbers; none: scores from 0 to 5."""

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...] = ()


ENTAILMENT = ("entailment", "not_entailment")
GLUE = {
    task.name: task
    for task in (
        TextTask("cola", ("sentence",), ("unacceptable", "acceptable")),
        TextTask("sst2", ("sentence",), ("negative", "positive")),
        TextTask("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
        TextTask("qqp", ("question1", "question2"), ("not_duplicate", "duplicate")),
        TextTask("stsb", ("sentence1", "sentence2")),
        TextTask("mnli", ("hypothesis", "premise"), ("entailment", "neutral", "contradiction")),
        TextTask("qnli", ("question", "sentence"), ENTAILMENT),
        TextTask("rte", ("sentence1", "sentence2"), ENTAILMENT),
    )
}
"""All but WNLI, which T5 leaves out of training and asks as `pronoun` does."""


def in_one_text(task: TaskFile, name: str) -> TaskFile:
    """The task with its inputs as one text: that of its prompt, or as `source` has them. name: of the task.

    Questions about contexts stay two texts; words with tags, and choices, are not written.
    """
    if task.predicts in ("answer", "tags", "choice") or (task.predicts == "text" and not task.inputs):
        return task

    def one(inputs: Sequence[str]) -> list[str]:
        fields = [text if "{" in text else f"{text}: {{{text}}}" for text in sorted(inputs)]
        return [task.prompt or " ".join([name.replace("{", "{{").replace("}", "}}"), *fields])]

    parts = {
        split: [part.model_copy(update={"inputs": one(part.inputs)}) if part.inputs else part for part in
                getattr(task, split)]
        for split in SPLIT_NAMES
    }  # fmt: skip
    return task.model_copy(update={"inputs": one(task.inputs) if task.inputs else [], **parts})


def source(name: str, fields: Mapping[str, str]) -> str:
    """What the encoder is given of an example. fields: its texts by name, without the label."""
    return " ".join([name, *(f"{key}: {fields[key]}" for key in sorted(fields))])


def target(task: TextTask, label: float) -> str:
    """What the decoder is to write: the label's text, or of scores the nearest multiple of 0.2, halves to even.

    ValueError for a number that is no label of the task.
    """
    if label == NO_LABEL:
        return UNKNOWN
    if not task.labels:
        return f"{round(label * 5) / 5:.1f}"
    if label not in range(len(task.labels)):
        raise ValueError(f"{task.name} has the labels 0 to {len(task.labels) - 1}, not {label}")
    return task.labels[int(label)]


def label_of(task: TextTask, text: str) -> float:
    """The label, or the score, that a written text names; `NO_LABEL` for any other text."""
    if task.labels:
        return task.labels.index(text) if text in task.labels else NO_LABEL
    try:
        return float(text)
    except ValueError:
        return NO_LABEL


def for_f1(truth: Sequence[int], written: Sequence[float]) -> list[int]:
    """Labels 0 and 1 that F1 is taken of: what names no label counts as the opposite of the truth."""
    return [1 - gold if label == NO_LABEL else int(label) for gold, label in zip(truth, written, strict=True)]


def question(asked: str, context: str, answers: Sequence[str]) -> tuple[str, str]:
    """Source and target of a question about a text (SQuAD); the target is the first answer, `UNKNOWN` without any."""
    given = f"question: {spaced(asked)} context: {spaced(context)}"
    return given, spaced(answers[0]) if answers else UNKNOWN


def translation(text: str, language: str, into: str) -> str:
    """The source of a translation. language, into: their English names."""
    return f"translate {language} to {into}: {text}"


def summary(text: str) -> str:
    """The source of a summary."""
    return f"summarize: {text}"


def pronoun(words: Sequence[str], place: int) -> str:
    """The source of a question about what the word at `place` refers to (WNLI, WSC); the target is the noun phrase."""
    return "wsc: " + " ".join(f"*{word}*" if number == place else word for number, word in enumerate(words))


def spaced(text: str) -> str:
    """The text with a space on both sides of every mark that is no letter, digit, accent or underscore."""
    parts = [
        character if character == "_" or character.isspace() or unicodedata.category(character)[0] in "LMN"
        else f" {character} "
        for character in text
    ]  # fmt: skip
    return " ".join("".join(parts).split())
