"""Labelled rows in memory, whatever they are read from and whatever head they train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_prep.kinds import kind_of

TEXT = "text"  # the kind of rows that are read as they stand
Head = Literal["class", "score", "tags", "choice", "answer", "text"]
Task = Literal["classification", "regression", "tagging", "choice", "question-answering", "text-to-text"]

TASKS: dict[Head, Task] = {
    "class": "classification",
    "score": "regression",
    "tags": "tagging",
    "choice": "choice",
    "answer": "question-answering",
    "text": "text-to-text",
}


def unit_of(head: Head, kind: str) -> str:
    """What has an answer each."""
    if head == "tags":
        return "words" if kind == TEXT else "hundredths of a second"
    return "questions" if head == "answer" else "rows"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that counts. `start` is its first character in `Example.text`; −1: the text is not there."""

    text: str
    start: int = -1


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled row; numbers index `Labelled.labels`. What a head does not need has its default.

    classification       text, text_pair (or None), label (−1: not known)
    regression           text, text_pair, score (None: not known)
    tagging              words and tags, which are equally long (no tags: not known); of a file tags of positions in
                         time (`labelled.segments`; −1: not known) and its `seconds`
    choice               text, text_pair, choices, label: number of the right one
    question-answering   text, which is the context; text_pair, the question; answers (none: not answerable)
    text-to-text         text, text_pair, target; answers, if several texts count

    Of examples in files, texts and choices are their paths as they are written, and `files` what is read.
    """

    text: str = ""
    text_pair: str | None = None
    label: int = -1
    words: tuple[str, ...] = ()
    tags: tuple[int, ...] = ()
    score: float | None = None
    choices: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    target: str = ""
    files: tuple[str | bytes, ...] = ()
    """Paths of the files that hold the example, such as recordings: of its texts, then of its choices; they are opened
    where rows are made of it. Of an example that somebody sent, the contents of these files."""
    digest: str = ""
    """Digest of what these files hold."""
    seconds: float = 0.0
    """Duration of the first of them."""
    omitted: tuple[int, int] = (0, 0)
    """Positions of the first one's array that are not read: from the first up to the second."""
    id: str = ""
    """The row's own, or its place; of one split, language and part, no two are the same."""
    language: str = ""
    part: str = ""
    """Rows of a split that are reported apart, such as `matched`."""
    place: str = ""
    """File and line, such as `dev.tsv:12`."""
    submit: str = ""
    """The file of predictions that a test server asks for, of rows without answers."""

    @property
    def names_itself(self) -> bool:
        """Whether its id is its own, not its place."""
        return bool(self.id) and self.id != self.place


@dataclass(frozen=True)
class Labelled:
    """A labelled data set. `splits` has train, validation and test, of task files also `predict`, without labels.

    `protocol` says how to score.
    """

    task: Task
    labels: list[str]
    splits: dict[str, list[Example]]
    description: str
    licence: str
    protocol: str
    notes: tuple[str, ...] = ()
    """What is odd about how the files are written, and what was made of it."""
    metrics: tuple[str, ...] = ()
    """Names of metrics; the first is the one that counts."""
    scheme: str = ""
    """How tags mark chunks: BIO, IOB1 or IOBES; empty where they mark none."""
    outside: str = ""
    """The label of positions in time that are in no segment; empty: it is not known."""
    kind: str = TEXT
    """Kind of data of its rows, as in `data_prep.kinds`: text in the rows themselves, or files."""

    @property
    def noun(self) -> str:
        """What to call what a row is read from."""
        return (None if self.kind == TEXT else kind_of(self.kind).file_noun) or TEXT

    @property
    def is_of_segments(self) -> bool:
        """Whether tags are those of positions in time, not of words."""
        return self.head == "tags" and self.kind != TEXT

    @property
    def head(self) -> Head:
        return next(head for head, task in TASKS.items() if task == self.task)

    @property
    def reported(self) -> str:
        """The split whose scores are reported: test, or validation where there is no test."""
        return "test" if self.splits["test"] else "validation"
