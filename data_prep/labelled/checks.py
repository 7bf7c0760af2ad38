"""What is wrong or odd about a labelled data set, told with numbers before a network is trained for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.labelled.sets import Example, Labelled

HELD_OUT = ("validation", "test")
MANY = 0.05  # share of a held-out split's answers that may be labels which training lacks
MOST = 0.5  # share of a held-out split's rows that may be training rows


def problems(data: Labelled) -> Iterator[str]:
    """Why nothing can be learned from a data set, or measured on it."""
    answers = {split: Counter(_answers(data.splits[split])) for split in ("train", *HELD_OUT)}
    if len(answers["train"]) == 1:
        (label,) = answers["train"]
        rows, name = len(data.splits["train"]), data.labels[label]
        yield f"all {rows:,} rows of train have the label {name!r}; at least two labels are needed"
    for split, new in _unknown(data, answers):
        if sum(new.values()) > MANY * answers[split].total():
            yield f"{_of_unknown(data, split, new, answers[split])}; put rows of all labels into train"
    for split, rows, shared in _shared(data):
        if shared > MOST * rows:
            yield f"{shared:,} of {rows:,} rows of {split} are in train, too; hold out others"


def remarks(data: Labelled) -> Iterator[str]:
    """What is odd, and does not stop anybody."""
    yield from data.notes
    answers = {split: Counter(_answers(data.splits[split])) for split in ("train", *HELD_OUT)}
    for split, new in _unknown(data, answers):
        if sum(new.values()) <= MANY * answers[split].total():
            yield f"{_of_unknown(data, split, new, answers[split])}, and count as wrong"
    for split, rows, shared in _shared(data):
        if shared <= MOST * rows:
            yield f"{shared:,} of {rows:,} rows of {split} are in train, too"
    labels: dict[Any, set[Any]] = {}
    examples = [example for split in data.splits.values() for example in split]
    for example in examples:
        labels.setdefault(_content(example), set()).add((example.label, example.tags))
    torn = sum(len(labels[_content(example)]) > 1 for example in examples)
    if torn:
        yield f"{torn:,} of {len(examples):,} rows are labelled differently in another row of the same text"


def _answers(examples: Sequence[Example]) -> Iterator[int]:
    for example in examples:
        yield from example.tags or (example.label,)


def _unknown(data: Labelled, answers: dict[str, Counter[int]]) -> Iterator[tuple[str, Counter[int]]]:
    """Of each held-out split, its answers with labels that train lacks, if there are any."""
    for split in HELD_OUT:
        new = Counter({label: count for label, count in answers[split].items() if label not in answers["train"]})
        if new:
            yield split, new


def _of_unknown(data: Labelled, split: str, new: Counter[int], of_split: Counter[int]) -> str:
    names = ", ".join(repr(data.labels[label]) for label, _ in new.most_common(3))
    unit = "words" if data.task == "tagging" else "rows"
    return f"{new.total():,} of {of_split.total():,} {unit} of {split} have labels that train lacks ({names})"


def _shared(data: Labelled) -> Iterator[tuple[str, int, int]]:
    """Of each held-out split that shares rows with train: its rows, and how many of them train has."""
    known = set(map(_content, data.splits["train"]))
    for split in HELD_OUT:
        shared = sum(_content(example) in known for example in data.splits[split])
        if shared:
            yield split, len(data.splits[split]), shared


def _content(example: Example) -> Any:
    return example.words or (example.text, example.text_pair)
