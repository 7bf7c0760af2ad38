"""Predictions for labelled examples: their scores, and the parts of the file that keeps them.

A prediction is what the example's head asks for: the number of a label, None for what is no label (class, choice); a
number (score); the number of a tag for each word (tags); a text, "" for no answer, None for no prediction (answer,
text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from data_prep.labelled.examples import Example, Head, Labelled
from pipeline.downstream import metrics
from pipeline.downstream.predictions_file import Part, PredictedTask

_OWN: dict[Head, tuple[str, ...]] = {
    "class": ("accuracy",),
    "score": ("pearson", "spearman"),
    "tags": ("accuracy",),
    "choice": ("accuracy",),
    "answer": ("squad",),
    "text": ("rouge",),
}


def metrics_of(data: Labelled) -> tuple[str, ...]:
    """Names of the metrics of a data set: its own, or else those of its head."""
    if data.metrics:
        return data.metrics
    if data.head == "tags" and data.scheme:
        return ("entity-f1", "accuracy")
    rows = (example for split in ("train", data.reported) for example in data.splits[split])
    if data.head == "answer" and not all(example.answers for example in rows):
        return ("squad-v2",)
    return _OWN[data.head]


def scores_of(data: Labelled, examples: Sequence[Example], predicted: Sequence[Any]) -> dict[str, float]:
    """Percentages by name of predictions for some of its examples."""
    truth = [truth_of(data, example) for example in examples]
    named = [named_as(data, prediction) for prediction in predicted]
    return metrics.scores(metrics_of(data), data.head, truth, named, _labels(data))


def tasks_of(task: str, data: Labelled) -> dict[str, PredictedTask]:
    """What the file of predictions says of a data set, by the names that `parts_of` gives its parts."""
    names = dict.fromkeys(example.part or task for examples in data.splits.values() for example in examples)
    return dict.fromkeys(names, PredictedTask(data.head, metrics_of(data), tuple(_labels(data) or ())))


def parts_of(
    task: str,
    data: Labelled,
    split: str,
    seed: int,
    examples: Sequence[Example],
    predicted: Sequence[Any],
    scores: Sequence[float | None] | None = None,
) -> list[Part]:
    """Predictions for some of a split's examples, those of each language and part by themselves.

    scores: of what is predicted, higher is surer. Parts that have a name are tasks of that name.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for row, example in enumerate(examples):
        rows.setdefault((example.part or task, example.language), []).append(row)
    if len(predicted) != len(examples):
        raise ValueError(f"{len(examples)} examples and {len(predicted)} predictions; expected one each")
    return [
        Part(
            task=name,
            split=split,
            seed=seed,
            ids=[examples[row].id for row in of_part],
            truth=[truth_of(data, examples[row]) for row in of_part],
            predicted=[named_as(data, predicted[row]) for row in of_part],
            scores=None if scores is None else [scores[row] for row in of_part],
            language=language,
        )
        for (name, language), of_part in rows.items()
    ]


def truth_of(data: Labelled, example: Example) -> Any:
    """What is right, as metrics take it."""
    return _TRUTH[data.head](data, example)


def named_as(data: Labelled, prediction: Any) -> Any:
    """A prediction, as metrics take it."""
    if data.head == "class":
        return None if prediction is None else data.labels[prediction]
    if data.head == "tags":
        return [data.labels[tag] for tag in prediction]
    if data.head == "choice":
        return None if prediction is None else str(prediction)
    return prediction


_TRUTH: dict[Head, Callable[[Labelled, Example], Any]] = {
    "class": lambda data, example: data.labels[example.label],
    "score": lambda _, example: example.score,
    "tags": lambda data, example: [data.labels[tag] for tag in example.tags],
    "choice": lambda _, example: str(example.label),
    "answer": lambda _, example: [answer.text for answer in example.answers],
    "text": lambda _, example: [answer.text for answer in example.answers] or [example.target],
}


def _labels(data: Labelled) -> list[str] | None:
    return data.labels if data.head == "class" else None
