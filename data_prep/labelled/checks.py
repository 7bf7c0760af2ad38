"""What is wrong or odd about a labelled data set, told with numbers before a network is trained for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_prep.corpus.documents import SPLITS
from data_prep.labelled.examples import Example, Labelled, unit_of
from data_prep.labelled.rows import first_of
from data_prep.labelled.segments import UNKNOWN
from data_prep.tokens.cleaning import clean

HELD_OUT = ("validation", "test")
OVERLAPS = (("validation", "train"), ("test", "train"), ("test", "validation"))
"""A split that is scored, and one that a network learned from or was chosen by: a row of both flatters the score."""
MANY = 0.05  # share of a held-out split's answers that may be labels which training lacks
MOST = 0.5  # share of a held-out split's rows that may be training rows


def problems(data: Labelled) -> Iterator[str]:
    """Why nothing can be learned from a data set, or measured on it."""
    answers = _counted(data)
    if data.labels and len(answers["train"]) == 1:
        (label,) = answers["train"]
        rows, name = len(data.splits["train"]), data.labels[label]
        yield f"all {rows:,} rows of train have the label {name!r}; at least two labels are needed"
    for split, new in _unknown(answers):
        if sum(new.values()) > MANY * answers[split].total():
            yield f"{_of_unknown(data, split, new, answers[split])}; put rows of all labels into train"
    for split in ("train", *HELD_OUT) if data.head == "answer" else ():
        if data.splits[split] and not any(example.answers for example in data.splits[split]):
            yield f"no question of {split} has an answer; name the file in predict if they are secret"
    for split in HELD_OUT:
        if len(shared := _shared(data, split, "train")) > MOST * len(data.splits[split]):
            yield f"{_of_shared(data, split, 'train', shared)}; hold out others"


def remarks(data: Labelled) -> Iterator[str]:
    """What is odd, and does not stop anybody."""
    yield from data.notes
    answers = _counted(data)
    if data.is_of_segments:
        yield from _unknown_positions(data)
    for split, new in _unknown(answers):
        if sum(new.values()) <= MANY * answers[split].total():
            yield f"{_of_unknown(data, split, new, answers[split])}, and count as wrong"
    for split, other in OVERLAPS:
        shared = _shared(data, split, other)
        if shared and (other != "train" or len(shared) <= MOST * len(data.splits[split])):
            yield _of_shared(data, split, other, shared)
    yield from _translations(data)
    if data.head == "answer":
        yield from _shared_contexts(data)
    else:
        yield from _torn(data)


def _unknown_positions(data: Labelled) -> Iterator[str]:
    """How much of recordings is in no segment."""
    tags = [tag for split in SPLITS for example in data.splits[split] for tag in example.tags]
    if unknown := tags.count(UNKNOWN):
        text = f"{unknown:,} of {len(tags):,} {unit_of(data.head, data.kind)} are in no segment"
        yield f"{text}, and are neither learned nor scored (outside of the task file names their label)"


def _torn(data: Labelled) -> Iterator[str]:
    """Equal rows with different answers."""
    answers: dict[Any, set[Any]] = {}
    examples = [example for split in SPLITS for example in data.splits[split]]
    for example in examples:
        answers.setdefault(_content(example), set()).add((example.label, example.tags, example.score, example.target))
    torn = [example for example in examples if len(answers[_content(example)]) > 1]
    if torn:
        text = (
            f"{len(torn):,} of {len(examples):,} rows are labelled differently in another row of the same {data.noun}"
        )
        yield f"{text}{_named(example.place for example in torn)}"


def _translations(data: Labelled) -> Iterator[str]:
    """Of each held-out split, the rows whose own id a row of train in another language has: the same in translation."""
    known = {(example.id, example.language) for example in data.splits["train"] if _is_of_pair(example)}
    languages = {language for _, language in known}
    for split in HELD_OUT if languages else ():
        shared = [
            example.place
            for example in data.splits[split]
            if _is_of_pair(example)
            and any((example.id, language) in known for language in languages - {example.language})
        ]
        if shared:
            rows = f"{len(shared):,} of {len(data.splits[split]):,} rows of {split}"
            text = "have the id of a row of train in another language, and may be its translation"
            yield f"{rows} {text}{_named(shared)}"


def _is_of_pair(example: Example) -> bool:
    """Whether a row of another language may have the same id."""
    return bool(example.language) and example.names_itself


def _shared_contexts(data: Labelled) -> Iterator[str]:
    """Of each held-out split, the questions about contexts that another split has questions about, too."""
    for split, other in OVERLAPS:
        known = {example.text for example in data.splits[other]}
        if shared := [example.place for example in data.splits[split] if example.text in known]:
            rows = f"{len(shared):,} of {len(data.splits[split]):,} questions of {split}"
            yield f"{rows} are about contexts that {other} has, too{_named(shared)}"


def _counted(data: Labelled) -> dict[str, Counter[int]]:
    return {split: Counter(_answers(data.splits[split]) if data.labels else ()) for split in SPLITS}


def _answers(examples: Sequence[Example]) -> Iterator[int]:
    for example in examples:
        yield from (tag for tag in example.tags if tag != UNKNOWN) if example.tags else (example.label,)


def _unknown(answers: dict[str, Counter[int]]) -> Iterator[tuple[str, Counter[int]]]:
    """Of each held-out split, its answers with labels that train lacks, if there are any."""
    for split in HELD_OUT if answers["train"] else ():
        new = Counter({label: count for label, count in answers[split].items() if label not in answers["train"]})
        if new:
            yield split, new


def _of_unknown(data: Labelled, split: str, new: Counter[int], of_split: Counter[int]) -> str:
    names = ", ".join(repr(data.labels[label]) for label, _ in new.most_common(3))
    unit = unit_of(data.head, data.kind)
    return f"{new.total():,} of {of_split.total():,} {unit} of {split} have labels that train lacks ({names})"


def _shared(data: Labelled, split: str, other: str) -> list[str]:
    """The places of a split's rows that another has, too, each with its place there."""
    known = {_content(example): example.place for example in reversed(data.splits[other])}
    pairs = ((example.place, known.get(_content(example))) for example in data.splits[split])
    return [f"{place} is {of_other}" if place else "" for place, of_other in pairs if of_other is not None]


def _of_shared(data: Labelled, split: str, other: str, shared: Sequence[str]) -> str:
    return f"{len(shared):,} of {len(data.splits[split]):,} rows of {split} are in {other}, too{_named(shared)}"


def _named(places: Iterable[str]) -> str:
    """The first places, if rows have any."""
    known = list(filter(None, places))
    return f" ({first_of(known)})" if known else ""


def _content(example: Example) -> Any:
    """What makes two rows the same, however their texts are written."""
    return example.digest or example.words or (clean(example.text), clean(example.text_pair or ""), example.choices)
