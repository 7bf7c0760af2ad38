"""The metrics of labelled tasks: those of `labelled_scores`, and F1 of words. Scores are shares, 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.examples import Example, Head, Labelled
from pipeline.downstream import labelled_scores
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.downstream.fine_tune.heads.words import OUTSIDE
from pipeline.downstream.metrics import METRICS
from pipeline.downstream.metrics.squad import best_threshold, raw_scores

TAG_F1 = "F1"


def names_of(data: Labelled) -> tuple[str, ...]:
    """Names of metrics; the first counts. Of tags with an outside class that mark no chunks, F1 over the others."""
    is_of_words = data.head == "tags" and not data.is_of_segments
    if is_of_words and OUTSIDE in data.labels and not (data.metrics or data.scheme):
        return (TAG_F1,)
    return labelled_scores.metrics_of(data)


def main_metric(data: Labelled) -> str:
    """The number that counts, as `scores` names it."""
    names = {"squad": "f1", "squad-v2": "f1", "cmrc": "f1", "rouge": "rouge1"}
    return names.get(names_of(data)[0], names_of(data)[0])


def scores(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> dict[str, float]:
    """Scores of answers to examples by name, shares of 1; `main_metric` is among them."""
    if names_of(data) == (TAG_F1,):
        return {TAG_F1: _tag_f1(data, examples, predicted)}
    percent = labelled_scores.scores_of(data, examples, predicted.answers)
    if predicted.null_odds and predicted.n_best and "squad-v2" in names_of(data):
        percent |= _best(data, examples, predicted)
    return {name: value / 100 for name, value in percent.items()}


def _best(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> dict[str, float]:
    """What SQuAD's script calls `best_exact` and `best_f1`: with the threshold of “no answer” that is best for these
    very rows."""
    truth = [labelled_scores.truth_of(data, example) for example in examples]
    texts = [next((span.text for span in spans if span.start is not None), "") for spans in predicted.n_best]
    f1, exact = raw_scores(truth, texts).T
    odds, answerable = np.nan_to_num(predicted.null_odds), [bool(golds) for golds in truth]
    of = {"best-exact": exact, "best-f1": f1}
    return {name: best_threshold(column, texts, odds, answerable).score for name, column in of.items()}


def scores_of_parts(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> dict[str, float]:
    """Scores of the rows of each group (`groups`), as `accuracy/mnli-mm`; of those that the metrics are not defined
    for (`undefined`), none."""
    by_name: dict[str, float] = {}
    for name, rows in groups(examples).items():
        of_rows = Predicted([predicted.answers[row] for row in rows], [predicted.scores[row] for row in rows])
        with suppress(UserError):  # of what is answered none remains: answers are numbers, or names of labels
            values = scores(data, [examples[row] for row in rows], of_rows)
            by_name |= {f"{metric}/{name}": value for metric, value in values.items()}
    return by_name


def groups(examples: Sequence[Example]) -> dict[str, list[int]]:
    """The rows that are scored apart, by name: of each named part, and of each language where there are several."""
    parts = {example.part for example in examples}
    languages = {example.language for example in examples}
    of_name: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        if example.part:
            of_name.setdefault(example.part, []).append(row)
    for row, example in enumerate(examples):
        if example.language and len(languages) > 1:
            of_name.setdefault(language_name(example.language, parts), []).append(row)
    return of_name


def language_name(language: str, parts: Collection[str]) -> str:
    """What the scores of a language are called: by its code, but where a part is called so."""
    while language in parts:
        language = f"language-{language}"
    return language


def unscorable(data: Labelled, examples: Sequence[Example]) -> str:
    """Why the metrics are not defined for these rows, whatever is answered: a sentence, or nothing. The right answers
    are scored, unless each metric is defined for all rows: those of long texts take seconds."""
    if all(name in METRICS and METRICS[name].always for name in names_of(data)):
        return ""
    try:
        scores(data, examples, Predicted([_RIGHT[data.head](example) for example in examples], [None] * len(examples)))
    except UserError as error:
        return str(error)
    return ""


def undefined(data: Labelled, examples: Sequence[Example]) -> dict[str, str]:
    """Why some groups (`groups`) have no score, by name."""
    reasons = {name: unscorable(data, [examples[row] for row in rows]) for name, rows in groups(examples).items()}
    return {name: why for name, why in reasons.items() if why}


_RIGHT: dict[Head, Callable[[Example], Any]] = {
    "class": lambda example: example.label,
    "score": lambda example: example.score,
    "tags": lambda example: example.tags,
    "choice": lambda example: example.label,
    "answer": lambda example: example.answers[0].text if example.answers else "",
    "text": lambda example: example.target,
}
"""What is right, as networks answer."""


def _tag_f1(data: Labelled, examples: Sequence[Example], predicted: Predicted) -> float:
    """Micro-averaged F1 of words, over all tags but the outside one."""
    from sklearn.metrics import f1_score

    scored = [tag for tag, label in enumerate(data.labels) if label != OUTSIDE]
    truth = list(chain.from_iterable(example.tags for example in examples))
    said = list(chain.from_iterable(predicted.answers))
    return float(f1_score(truth, said, labels=scored, average="micro", zero_division=0))  # type: ignore[arg-type]
