"""The metrics of labelled tasks: those that the task names, or those of its head. Scores are shares, 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from data_prep.labelled.examples import Example, Labelled
from pipeline.downstream import metrics
from pipeline.downstream.fine_tune.heads import Predicted, answers, module_of, shape_of
from pipeline.downstream.fine_tune.heads.words import OUTSIDE

TAG_F1 = "F1"


def names_of(data: Labelled) -> tuple[str, ...]:
    """Names of metrics; the first counts. Of tags with an outside class that mark no chunks, F1 over the others."""
    if data.metrics:
        return data.metrics
    if data.head == "tags":
        return ("entity-f1",) if data.scheme else (TAG_F1,) if OUTSIDE in data.labels else ("accuracy",)
    if data.head == "answer" and shape_of(data).unanswerable:
        return answers.UNANSWERABLE_SCORES
    return tuple(module_of(data.head).SCORES) if data.head != "score" else ("spearman", "pearson")


def main_metric(data: Labelled) -> str:
    """The number that counts, as `scores` names it."""
    names = {"squad": "f1", "squad-v2": "f1", "cmrc": "f1"}
    return names.get(names_of(data)[0], names_of(data)[0])


def scores(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> dict[str, float]:
    """Scores of answers to examples by name, shares of 1; `main_metric` is among them."""
    names, truth = names_of(data), module_of(data.head).truth(shape_of(data), examples)
    if names == (TAG_F1,):
        return {TAG_F1: _tag_f1(data, truth, predicted.answers)}
    labels = data.labels if data.head in ("class", "tags") else None
    percent = metrics.scores(names, data.head, truth, predicted.answers, labels)
    return {name: value / 100 for name, value in percent.items()}


def scores_of_parts(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> dict[str, float]:
    """Scores of the rows of each named part, and of each language where there are several, as `accuracy/mnli-mm`."""
    languages = {example.language for example in examples}
    groups: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        name = example.part or (example.language if len(languages) > 1 else "")
        groups.setdefault(name, []).append(row)
    by_name: dict[str, float] = {}
    for name, rows in groups.items():
        if name:
            of_rows = Predicted([predicted.answers[row] for row in rows], [predicted.scores[row] for row in rows])
            values = scores(data, [examples[row] for row in rows], of_rows)
            by_name |= {f"{metric}/{name}": value for metric, value in values.items()}
    return by_name


def _tag_f1(data: Labelled, truth: Sequence[Any], said: Sequence[Any]) -> float:
    """Micro-averaged F1 of words, over all tags but the outside one."""
    from sklearn.metrics import f1_score

    scored = [label for label in data.labels if label != OUTSIDE]
    pair = (list(chain.from_iterable(values)) for values in (truth, said))
    return float(f1_score(*pair, labels=scored, average="micro", zero_division=0))  # type: ignore[arg-type]
