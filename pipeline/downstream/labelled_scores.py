"""Scores of predictions for labelled examples, and their parts of the predictions file.

The form of a prediction depends on the head: the number of a label or choice, from 0, None if invalid (class, choice);
a number (score); a tag number for each word, or position in time (tags); a text, "" for no answer, None if missing
(answer, text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from data_prep.labelled.examples import TEXT, Example, Head, Labelled
from data_prep.labelled.segments import UNKNOWN
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
    """The metrics of a data set: those that it names, or the defaults for its head."""
    if data.metrics:
        return data.metrics
    if data.head == "tags" and data.scheme:
        return ("entity-f1", "accuracy")
    if data.is_of_segments:
        return ("accuracy", "macro-f1", "segment-f1")
    if data.head == "answer" and data.kind != TEXT:
        return ("span-f1",)
    rows = (example for split in ("train", data.reported) for example in data.splits[split])
    if data.head == "answer" and not all(example.answers for example in rows):
        return ("squad-v2",)
    return _OWN[data.head]


def scores_of(data: Labelled, examples: Sequence[Example], predicted: Sequence[Any]) -> dict[str, float]:
    """Scores in percent, by name, of predictions for some examples."""
    truth = [truth_of(data, example) for example in examples]
    named = [named_as(data, prediction) for prediction in predicted]
    return metrics.scores(metrics_of(data), data.head, truth, named, _labels(data))


def tasks_of(task: str, data: Labelled) -> dict[str, PredictedTask]:
    """The description of a data set for the predictions file, by the task names that `parts_of` uses."""
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
    n_best: Sequence[Sequence[tuple[str, int | None, float]]] = (),
) -> list[Part]:
    """Predictions for examples of a split as parts of the file, split by language and by `Example.part`.

    scores: confidence in each prediction. n_best: the best answers to each question about a context. A named part
    becomes a task of that name.
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
            n_best=[n_best[row] for row in of_part] if n_best else None,
        )
        for (name, language), of_part in rows.items()
    ]


def truth_of(data: Labelled, example: Example) -> Any:
    """The truth, in the form that metrics take."""
    return _TRUTH[data.head](data, example)


class Answers(Protocol):
    """What answers can be: of a data set, or of a network that was trained on one."""

    @property
    def head(self) -> Head: ...

    @property
    def labels(self) -> Sequence[str]: ...


def named_as(data: Answers, prediction: Any) -> Any:
    """A prediction, in the form that metrics take."""
    if data.head == "class":
        return None if prediction is None else data.labels[prediction]
    if data.head == "tags":
        return [data.labels[tag] for tag in prediction]
    if data.head == "choice":
        return None if prediction is None else str(prediction)
    return prediction


def answer_as_written(data: Answers, example: Example, prediction: Any) -> Any:
    """A prediction as whoever asks reads it: as `named_as`, but the text of a choice instead of its number."""
    if data.head == "choice" and prediction is not None:
        return example.choices[prediction]
    return named_as(data, prediction)


_TRUTH: dict[Head, Callable[[Labelled, Example], Any]] = {
    "class": lambda data, example: data.labels[example.label],
    "score": lambda _, example: example.score,
    "tags": lambda data, example: [None if tag == UNKNOWN else data.labels[tag] for tag in example.tags],
    "choice": lambda _, example: str(example.label),
    "answer": lambda _, example: [answer.text for answer in example.answers],
    "text": lambda _, example: [answer.text for answer in example.answers] or [example.target],
}


def _labels(data: Labelled) -> list[str] | None:
    """The labels that metrics are told of: all classes, or those that segments have."""
    if data.is_of_segments:
        return [label for label in data.labels if label != data.outside]
    return data.labels if data.head == "class" else None
