"""Metrics of predictions, one file per family. All are percentages. Read without torch and without their libraries.

    scores(["accuracy", "f1"], "class", truth, predicted, labels)   # {"accuracy": 88.7, "f1": 84.1}

`METRICS` names them for task files. What truth and predictions look like depends on a task's head:

    class, choice   a label for each row; None where nothing that is a label was predicted
    score           a number for each row
    tags            a sequence of tags for each row (sentence)
    answer          for each row (question) its right answers, and the answer; "" is “no answer”, None is none at all
    text            for each row the texts that would be right, and the text that was written
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from data_prep.errors import UserError, choices
from pipeline.downstream.metrics.measured import Column, Measured


@dataclass(frozen=True)
class MetricEntry:
    """Where a metric is, and which heads have it. of_labels: whether it is given the task's labels."""

    module: str
    function: str
    heads: tuple[str, ...]
    of_labels: bool = False


_ROOM = "pipeline.downstream.metrics"
METRICS = {
    "accuracy": MetricEntry(f"{_ROOM}.labels", "accuracy", ("class", "choice", "tags"), of_labels=True),
    "f1": MetricEntry(f"{_ROOM}.labels", "f1", ("class",), of_labels=True),
    "macro-f1": MetricEntry(f"{_ROOM}.labels", "macro_f1", ("class", "choice"), of_labels=True),
    "matthews": MetricEntry(f"{_ROOM}.labels", "matthews", ("class",), of_labels=True),
    "pearson": MetricEntry(f"{_ROOM}.correlations", "pearson", ("score",)),
    "spearman": MetricEntry(f"{_ROOM}.correlations", "spearman", ("score",)),
    "entity-f1": MetricEntry(f"{_ROOM}.entities", "entity_f1", ("tags",)),
    "squad": MetricEntry(f"{_ROOM}.squad", "squad", ("answer",)),
    "squad-v2": MetricEntry(f"{_ROOM}.squad", "squad_v2", ("answer",)),
    "cmrc": MetricEntry(f"{_ROOM}.chinese_answers", "cmrc", ("answer",)),
    "bleu": MetricEntry(f"{_ROOM}.text", "measured_bleu", ("text",)),
    "chrf": MetricEntry(f"{_ROOM}.text", "measured_chrf", ("text",)),
    "rouge": MetricEntry(f"{_ROOM}.text", "measured_rouge", ("text",)),
}


def problems(names: Iterable[str], head: str) -> list[str]:
    """What is wrong with a task's metrics, in sentences."""
    wrong = []
    allowed = [name for name, entry in METRICS.items() if head in entry.heads]
    for name in names:
        if name not in METRICS:
            wrong.append(f"no metric is called {name!r}; {choices(name, allowed)}")
        elif head not in METRICS[name].heads:
            wrong.append(f"the metric {name!r} is not for head {head}; {choices(name, allowed)}")
    return wrong


def measured(name: str, head: str, truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """The metric of certain rows, which tells its score for any drawing of them. UserError for one of another head."""
    if wrong := problems([name], head):
        raise UserError(f"{wrong[0]}.")
    entry = METRICS[name]
    function = getattr(import_module(entry.module), entry.function)
    return function(truth, predicted, labels) if entry.of_labels else function(truth, predicted)


def scores(
    names: Iterable[str], head: str, truth: Column, predicted: Column, labels: Column | None = None
) -> dict[str, float]:
    """Percentages by name. The first that a metric gives is its own; where two give the same name, the first stays."""
    values: dict[str, float] = {}
    for name in names:
        for key, value in measured(name, head, truth, predicted, labels).scores().items():
            values.setdefault(key, value)
    return values
