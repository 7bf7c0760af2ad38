"""Metrics for predictions, one file per family, all in percent. Importing them loads no torch and no metric library.

    scores(["accuracy", "f1"], "class", truth, predicted, labels)   # {"accuracy": 88.7, "f1": 84.1}

`METRICS` lists the names that task files may use. The form of truth and predictions depends on the task's head:

    class, choice   one label per row; None for a prediction that is not a label
    score           one number per row
    tags            a sequence of tags per row (sentence, or recording); true ones of None are not known, and not scored
    answer          per row (question) the accepted answers, and the predicted one: "" for “no answer”, None if missing
    text            per row the reference texts, and the generated text
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from data_prep.errors import UserError, choices
from pipeline.downstream.metrics.measured import Column, Measured


@dataclass(frozen=True)
class MetricEntry:
    """Where a metric is defined, and the heads it applies to.

    of_labels: whether it takes the task's labels. note: what reports say beside its numbers, a sentence.
    always: whether it is defined for all rows.
    """

    module: str
    function: str
    heads: tuple[str, ...]
    of_labels: bool = False
    note: str = ""
    always: bool = False


_ROOM = "pipeline.downstream.metrics"
METRICS = {
    "accuracy": MetricEntry(f"{_ROOM}.labels", "accuracy", ("class", "choice", "tags"), of_labels=True),
    "f1": MetricEntry(f"{_ROOM}.labels", "f1", ("class",), of_labels=True),
    "macro-f1": MetricEntry(f"{_ROOM}.labels", "macro_f1", ("class", "choice", "tags"), of_labels=True),
    "matthews": MetricEntry(f"{_ROOM}.labels", "matthews", ("class",), of_labels=True),
    "pearson": MetricEntry(f"{_ROOM}.correlations", "pearson", ("score",)),
    "spearman": MetricEntry(f"{_ROOM}.correlations", "spearman", ("score",)),
    "entity-f1": MetricEntry(f"{_ROOM}.entities", "entity_f1", ("tags",)),
    "segment-f1": MetricEntry(f"{_ROOM}.segments", "segment_f1", ("tags",), of_labels=True),
    "squad": MetricEntry(f"{_ROOM}.squad", "squad", ("answer",)),
    "squad-v2": MetricEntry(f"{_ROOM}.squad", "squad_v2", ("answer",)),
    "span-f1": MetricEntry(f"{_ROOM}.spans", "span_f1", ("answer",)),
    "cmrc": MetricEntry(
        f"{_ROOM}.chinese_answers",
        "cmrc",
        ("answer",),
        note="F1 is that of the official script, but for answers with several sentences of words that are not Chinese: "
        "the script parts these, and then the full stop of each from its word.",
    ),
    "bleu": MetricEntry(f"{_ROOM}.text", "measured_bleu", ("text",), always=True),
    "bleu-zh": MetricEntry(f"{_ROOM}.text", "measured_bleu_zh", ("text",), always=True),
    "exact-match": MetricEntry(f"{_ROOM}.text", "measured_exact", ("text",), always=True),
    "chrf": MetricEntry(f"{_ROOM}.text", "measured_chrf", ("text",), always=True),
    "rouge": MetricEntry(f"{_ROOM}.text", "measured_rouge", ("text",), always=True),
}


def problems(names: Iterable[str], head: str) -> list[str]:
    """Problems with a task's list of metrics, one sentence each."""
    wrong = []
    allowed = [name for name, entry in METRICS.items() if head in entry.heads]
    for name in names:
        if name not in METRICS:
            wrong.append(f"no metric is called {name!r}; {choices(name, allowed)}")
        elif head not in METRICS[name].heads:
            wrong.append(f"the metric {name!r} is not for head {head}; {choices(name, allowed)}")
    return wrong


def metric_notes(names: Iterable[str]) -> list[str]:
    """What is to be said beside the numbers of metrics."""
    return [METRICS[name].note for name in dict.fromkeys(names) if METRICS[name].note]


def measured(name: str, head: str, truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """A metric for these rows, ready to be evaluated on any resample of them. UserError if it does not fit the head."""
    if wrong := problems([name], head):
        raise UserError(f"{wrong[0]}.")
    entry = METRICS[name]
    function = getattr(import_module(entry.module), entry.function)
    return function(truth, predicted, labels) if entry.of_labels else function(truth, predicted)


def scores(
    names: Iterable[str], head: str, truth: Column, predicted: Column, labels: Column | None = None
) -> dict[str, float]:
    """Scores in percent by name, each metric's main score first. If two metrics share a name, the first one wins."""
    values: dict[str, float] = {}
    for name in names:
        for key, value in measured(name, head, truth, predicted, labels).scores().items():
            values.setdefault(key, value)
    return values
