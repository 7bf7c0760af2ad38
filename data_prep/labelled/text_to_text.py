"""Labelled examples as texts from texts, as T5 was given them (Raffel et al. 2020, appendix D, and the code of `t5`).

    {"sentence": "The course is jumping well."}        ─►   "cola sentence: The course is jumping well."
    "Who?" about "Nobody, they said."                  ─►   "question: Who ? context: Nobody , they said ."

A text is the task's name, then each field's name and value, in the order of the alphabet; or the task's prompt, filled
in. Of questions about contexts, and of their answers, every punctuation mark stands between spaces.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from data_prep.errors import UserError
from data_prep.labelled.layouts.squad import COLUMNS
from data_prep.labelled.task import SPLIT_NAMES, TaskFile, fields_of, renamed

STEPS = 25  # from the least score of STS-B, 0, to its greatest, 5, as T5 writes them: in steps of 0.2
UNREADABLE = 5  # steps below the least score, as T5's −1 of STS-B
CONTEXT, QUESTION = COLUMNS  # fields of `prompt_of`


def in_one_text(task: TaskFile, name: str) -> TaskFile:
    """The task with its inputs as one text: that of its prompt, or its name and fields. name: of the task.

    Questions about contexts stay two texts; words with tags, and choices, are not written. UserError for a prompt of
    questions that names other columns, and for an input that may be missing.
    """
    if task.predicts == "answer":
        prompt_of(task)
    if task.predicts in ("answer", "tags", "choice") or (task.predicts == "text" and not task.inputs):
        return task
    if task.optional:
        raise UserError(f"optional: a network that writes its answers reads all inputs of {name}; leave it out")

    def one(inputs: Sequence[str]) -> list[str]:
        fields = [text if "{" in text else f"{text}: {{{text}}}" for text in sorted(inputs)]
        return [task.prompt or " ".join([name.replace("{", "{{").replace("}", "}}"), *fields])]

    parts = {
        split: [part.model_copy(update={"inputs": one(part.inputs)}) if part.inputs else part for part in
                getattr(task, split)]
        for split in SPLIT_NAMES
    }  # fmt: skip
    return task.model_copy(update={"inputs": one(task.inputs) if task.inputs else [], **parts})


def prompt_of(task: TaskFile) -> str:
    """The prompt of questions about contexts, with the fields `context` and `question` for the columns of these; empty:
    the task has none, or asks something else. UserError for one that names other columns."""
    if task.predicts != "answer" or not task.prompt:
        return ""
    columns = task.inputs or list(COLUMNS)
    if others := [name for name in fields_of(task.prompt) if name not in columns]:
        known = " and ".join(columns)
        raise UserError(f"prompt: names {others[0]!r}, and written answers are asked of {known} alone; leave it out.")
    return renamed(task.prompt, dict(zip(columns, COLUMNS, strict=True)))


def question(asked: str, context: str) -> str:
    """What the encoder is given of a question about a text (SQuAD)."""
    return f"question: {spaced(asked)} context: {spaced(context)}"


def spaced(text: str) -> str:
    """The text with a space on both sides of every mark that is no letter, digit, accent or underscore."""
    return " ".join("".join(f" {letter} " if _is_mark(letter) else letter for letter in text).split())


def as_in(context: str, written: str) -> str:
    """The first part of a context that is `written` once it is spaced; where there is none, what was written."""
    parts = spaced(written).split()
    pattern = ""
    for before, part in zip(["", *parts], parts, strict=False):
        between = r"\s*" if _is_mark(before[-1:]) or _is_mark(part[0]) else r"\s+"
        pattern += between * bool(before) + re.escape(part)
    match = re.search(pattern, context) if parts else None
    return match[0] if match else written


def step_of(scores: Sequence[float]) -> float:
    """The step in which scores are written: 1, 2 or 5 times a power of ten, so that about `STEPS` reach from the least
    to the greatest; 0.2 of those from 0 to 5, and of scores that are all the same."""
    exact = (max(scores) - min(scores)) / STEPS
    if not exact:
        return 0.2
    power = 10.0 ** math.floor(math.log10(exact))
    return min((float(f"{digit * power:g}") for digit in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / exact)))


def written_score(score: float, step: float) -> str:
    """The nearest multiple of the step, halves to even, with one decimal at least."""
    per_unit = 1 / step
    exponent = Decimal(repr(step)).as_tuple().exponent
    return f"{round(score * per_unit) / per_unit:.{max(1, -int(exponent))}f}"


def unreadable_score(scores: Sequence[float], step: float) -> float:
    """What a text counts as that is no number: a score below all that there are."""
    return float(written_score(min(scores), step)) - UNREADABLE * step


def _is_mark(letter: str) -> bool:
    is_word = letter in ("", "_") or letter.isspace() or unicodedata.category(letter)[0] in "LMN"
    return not is_word
