"""What a network answered, for a person to look at: wrong answers, which labels are taken for which, how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.labelled.examples import Example, Labelled
from data_prep.labelled.segments import UNKNOWN, stretches
from pipeline.downstream import labelled_scores
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.downstream.metrics import measured
from pipeline.downstream.metrics.calibration import calibration
from pipeline.reports import data as figures
from pipeline.reports.report import Figure, Table

CONFUSION, CALIBRATION = "confusion.png", "calibration.png"
MOST_LABELS = 30  # of a matrix that can be read
WRONG = 8  # answers that are shown
LONGEST = 160  # characters of a text
AROUND = 6  # words on either side of one
COLUMNS = ("text", "right", "answer", "how sure")


class Wrong(NamedTuple):
    """A wrong answer. sure: how sure the network is of it; of numbers, how far off. place: of its example. cells: by
    `COLUMNS`."""

    sure: float
    place: int
    cells: list[str]


def shown(
    data: Labelled, examples: Sequence[Example], predicted: Predicted, folder: Path
) -> tuple[list[Table], list[Figure]]:
    """Tables and figures of answers to some examples; draws into `folder`."""
    tables, drawn = [], []
    if wrong := surest(data, examples, predicted, WRONG):
        rows = [case.cells for case in wrong]
        tables.append(Table("Wrong answers of which it is most sure", COLUMNS, rows, examples=True))
    if data.head == "class" and len(data.labels) <= MOST_LABELS:
        pairs = [(e.label, answer) for e, answer in zip(examples, predicted.answers, strict=True) if answer is not None]
        truth, answers = ([pair[side] for pair in pairs] for side in (0, 1))
        figures.confusion(data.labels, truth, answers, folder / CONFUSION)
        drawn.append(Figure("which labels are taken for which", CONFUSION))
    if data.head in ("class", "choice") and None not in predicted.scores:
        sure = [score or 0.0 for score in predicted.scores]
        right = [answer == example.label for answer, example in zip(predicted.answers, examples, strict=True)]
        measured = calibration(sure, right)
        bins = [(each.confidence, each.accuracy, each.count) for each in measured.bins]
        figures.reliability(bins, measured.error, folder / CALIBRATION)
        drawn.append(Figure("how often it is right where it is so sure", CALIBRATION))
    return tables, drawn


def surest(data: Labelled, examples: Sequence[Example], predicted: Predicted, most: int) -> list[Wrong]:
    """The wrong answers of which the network is most sure, at most so many."""
    answered, metric = zip(examples, predicted.answers, predicted.scores, strict=True), _metric(data)
    wrong = [
        Wrong(sure, place, cells) for place, each in enumerate(answered) for sure, cells in _wrong(data, metric, *each)
    ]
    return sorted(wrong, key=lambda case: -case.sure)[:most]


def _metric(data: Labelled) -> str:
    """The metric by whose exact match a text is right."""
    return labelled_scores.metrics_of(data)[0] if data.head == "answer" else "exact-match"


def _wrong(
    data: Labelled, metric: str, example: Example, answer: Any, score: float | None
) -> Iterator[tuple[float, list[str]]]:
    """Of a wrong answer how sure the network is, and a line about it; nothing of a right one."""
    sure = "–" if score is None else f"{score:.0%}"
    if data.is_of_segments:
        yield from _wrong_stretch(data, example, answer, score or 0.0, sure)
        return
    if data.head == "tags":
        yield from _wrong_words(data, example, answer, score or 0.0, sure)
        return
    truth, said = labelled_scores.truth_of(data, example), labelled_scores.named_as(data, answer)
    if data.head == "score":
        yield abs(answer - (example.score or 0.0)), [_text(example), f"{truth:.4g}", f"{answer:.4g}", sure]
    elif data.head == "choice" and answer != example.label:
        texts = [example.choices[number] for number in (example.label, answer)]
        yield score or 0.0, [_text(example), *map(_short, texts), sure]
    elif data.head == "answer" and not _is_exact(data, metric, truth, answer):
        right = truth[0] if truth else "no answer"
        yield score or 0.0, [_short(example.text_pair or ""), _short(right), _short(said or "no answer"), sure]
    elif data.head == "class" and said != truth:
        yield score or 0.0, [_text(example), truth, "no label" if said is None else said, sure]
    elif data.head == "text" and not _is_exact(data, metric, truth, answer):
        yield 0.0, [_text(example), _short(truth[0]), _short(answer or "nothing"), sure]


def _is_exact(data: Labelled, metric: str, truth: Sequence[str], answer: str | None) -> bool:
    """Whether a text is right by a metric's exact match. truth: those that count; none: there is no answer."""
    if not truth or answer in truth:
        return bool(truth) or not answer
    values = measured(metric, data.head, [truth], [answer]).scores()
    return next(values[name] for name in ("exact", "exact-match", "span-accuracy") if name in values) == 100


def _wrong_words(
    data: Labelled, example: Example, tags: Sequence[int], score: float, sure: str
) -> Iterator[tuple[float, list[str]]]:
    """The first wrong word of a sentence, between others."""
    place = next((number for number, (a, b) in enumerate(zip(tags, example.tags, strict=True)) if a != b), None)
    if place is not None:
        words = [*example.words[max(0, place - AROUND) : place], f"[{example.words[place]}]"]
        text = " ".join([*words, *example.words[place + 1 : place + 1 + AROUND]])
        yield score, [_short(text), data.labels[example.tags[place]], data.labels[tags[place]], sure]


def _wrong_stretch(
    data: Labelled, example: Example, tags: Sequence[int], score: float, sure: str
) -> Iterator[tuple[float, list[str]]]:
    """The longest stretch of a recording with one wrong label in place of another."""
    pairs = zip(example.tags, tags, strict=True)
    wrong = [UNKNOWN if true in (UNKNOWN, tag) else true * len(data.labels) + tag for true, tag in pairs]
    found = stretches(wrong, example.seconds)
    if found:
        longest = max(found, key=lambda segment: segment.end - segment.start)
        right, said = (data.labels[label] for label in divmod(longest.label, len(data.labels)))
        yield score, [_short(f"{example.text} {longest.start:.2f}–{longest.end:.2f} s"), right, said, sure]


def _text(example: Example) -> str:
    return _short(example.text if example.text_pair is None else f"{example.text} | {example.text_pair}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
