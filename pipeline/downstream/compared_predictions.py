"""Compares the predictions of runs with those of the first one.

Only predictions for the same rows are compared: same ids, same truth. Significance is judged by a task's first metric:
by McNemar's exact test for accuracy with one seed on each side, by a paired bootstrap otherwise, with Holm's correction
over tasks and runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics import measured
from pipeline.downstream.metrics.differences import LEVEL, Difference, holm, mcnemar, paired_bootstrap
from pipeline.downstream.metrics.measured import Measured
from pipeline.downstream.predictions_file import Part, PredictedTask, Predictions
from pipeline.reports.report import Table

BOOTSTRAP, MCNEMAR = "a paired bootstrap", "McNemar's test"
COLUMNS = ("task", "metric", "run", "score", "difference", f"{LEVEL:.0%} interval", "p")
Key = tuple[str, str, str]
"""Task, split, language."""


@dataclass(frozen=True)
class Line:
    """A run's score by one metric, in percent, and its difference from the first run.

    spread: standard deviation over seeds, if there are several. p: corrected; only for the task's first metric.
    """

    task: str
    metric: str
    run: str
    seeds: int
    score: float
    spread: float | None
    difference: Difference | None = None
    p: float | None = None
    test: str = ""

    @property
    def is_significant(self) -> bool:
        return self.p is not None and self.p < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """lines: by task and metric, the first run first. left_out: a sentence for each task that not all runs have."""

    lines: list[Line]
    verdict: str
    left_out: list[str]

    @property
    def about(self) -> str:
        """What the numbers mean."""
        tests = " or ".join(dict.fromkeys(line.test for line in self.lines if line.test))
        num_tests = sum(line.p is not None for line in self.lines)
        return (
            f"Scores in percent, mean ± standard deviation over seeds; differences from {self.lines[0].run}; p-values "
            f"by {tests}, with Holm's correction for {num_tests}."
        )

    @property
    def table(self) -> Table:
        return Table("Predictions", COLUMNS, [_cells(line) for line in self.lines])


def compare(runs: Mapping[str, Predictions]) -> Comparison:
    """Compare two or more runs, by name. UserError if they have no task in common, or tested it on other rows."""
    if len(runs) < 2:
        raise UserError(f"a comparison needs at least two runs, found {len(runs)}.")
    by_key = {name: _by_key(predictions) for name, predictions in runs.items()}
    keys = [key for key in next(iter(by_key.values())) if all(key in of_run for of_run in by_key.values())]
    left_out = [
        f"{name} has predictions for {_named(key)}, but not all runs do."
        for name, of_run in by_key.items()
        for key in of_run
        if key not in keys
    ]
    if not keys:
        raise UserError("the runs have no task in common. " + " ".join(left_out))
    lines: list[Line] = []
    for key in keys:
        sides = {name: of_run[key] for name, of_run in by_key.items()}
        task = _same_task(key, {name: predictions.tasks[key[0]] for name, predictions in runs.items()})
        lines += _lines(_named(key), task, _aligned(key, sides))
    lines = _corrected(lines)
    return Comparison(lines, _verdict(lines), left_out)


def _by_key(predictions: Predictions) -> dict[Key, list[Part]]:
    """Parts by task, split and language; those of a key differ in their seed."""
    parts: dict[Key, list[Part]] = {}
    for part in sorted(predictions.parts, key=lambda part: part.seed):
        parts.setdefault((part.task, part.split, part.language), []).append(part)
    return parts


def _named(key: Key) -> str:
    task, split, language = key
    return f"{task} ({', '.join(filter(None, (language, split)))})"


def _same_task(key: Key, tasks: Mapping[str, PredictedTask]) -> PredictedTask:
    """The task, with the metrics that all runs have. UserError if its head, labels or first metric differ."""
    (first, task), *others = tasks.items()
    for name, other in others:
        for what, a, b in (("head", task.head, other.head), ("labels", task.labels, other.labels)):
            if a != b:
                raise UserError(f"{_named(key)} has different {what} in {name} and {first}: {b} and {a}.")
        if other.metrics[0] != task.metrics[0]:
            raise UserError(
                f"{_named(key)} is judged by {other.metrics[0]} in {name} and by {task.metrics[0]} in {first}; put the "
                "same metric first in both."
            )
    shared = tuple(name for name in task.metrics if all(name in other.metrics for _, other in others))
    return PredictedTask(task.head, shared, task.labels)


def _aligned(key: Key, sides: Mapping[str, Sequence[Part]]) -> dict[str, list[Part]]:
    """The parts with their rows in the order of the first. UserError if rows or their truth differ."""
    (first, (reference, *_)), *_ = sides.items()
    truth = dict(zip(reference.ids, reference.truth, strict=True))
    aligned: dict[str, list[Part]] = {}
    for name, parts in sides.items():
        for part in parts:
            ids = set(part.ids)
            missing, new = len(truth.keys() - ids), len(ids - truth.keys())
            where = f"{name}, seed {part.seed}, was not tested on the same rows of {_named(key)} as {first}"
            if missing or new:
                raise UserError(
                    f"{where}: {missing:,} of {len(truth):,} rows are missing and {new:,} are new; test both on the "
                    "same rows."
                )
            if others := sum(truth[number] != value for number, value in zip(part.ids, part.truth, strict=True)):
                raise UserError(
                    f"{where}: {others:,} of {len(truth):,} have a different truth; test both on the same rows."
                )
            place = {number: row for row, number in enumerate(part.ids)}
            order = [place[number] for number in reference.ids]
            predicted = [part.predicted[row] for row in order]
            aligned.setdefault(name, []).append(
                Part(part.task, part.split, part.seed, reference.ids, reference.truth, predicted, None, part.language)
            )
    return aligned


def _lines(named: str, task: PredictedTask, sides: Mapping[str, Sequence[Part]]) -> Iterator[Line]:
    """For each metric, a line for the first run, then one for each of the others with its difference."""
    for place, metric in enumerate(task.metrics):
        of_runs = {
            name: [measured(metric, task.head, part.truth, part.predicted, task.labels or None) for part in parts]
            for name, parts in sides.items()
        }
        (first, reference), *others = of_runs.items()
        yield _line(named, metric, first, reference)
        for name, of_run in others:
            difference = next(iter(paired_bootstrap(reference, of_run).values()))
            p, test = (difference.p, BOOTSTRAP)
            if (right := _right(task.head, (reference, of_run))) is not None:
                p, test = mcnemar(*right), MCNEMAR
            counts = place == 0
            yield _line(named, metric, name, of_run, difference, p if counts else None, test if counts else "")


def _right(head: str, sides: Sequence[Sequence[Measured]]) -> list[np.ndarray] | None:
    """Which rows each side gets right, if McNemar's test applies; None otherwise."""
    rights = [side[0].right for side in sides]
    if head not in ("class", "choice", "text") or any(len(side) > 1 for side in sides):
        return None
    return None if any(right is None for right in rights) else [right for right in rights if right is not None]


def _line(
    named: str,
    metric: str,
    run: str,
    of_seeds: Sequence[Measured],
    difference: Difference | None = None,
    p: float | None = None,
    test: str = "",
) -> Line:
    scores = [next(iter(of_seed.scores().values())) for of_seed in of_seeds]
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return Line(named, metric, run, len(scores), float(np.mean(scores)), spread, difference, p, test)


def _corrected(lines: Sequence[Line]) -> list[Line]:
    corrected = iter(holm([line.p for line in lines if line.p is not None]))
    return [line if line.p is None else replace(line, p=next(corrected)) for line in lines]


def _verdict(lines: Sequence[Line]) -> str:
    """Significant differences, then the rest."""
    (first, judged) = lines[0].run, [line for line in lines if line.p is not None]
    apart = [line for line in judged if line.is_significant]
    alike = [line for line in judged if not line.is_significant]
    several = len({line.run for line in judged}) > 1
    parts = []
    if apart:
        named = (
            f"on {line.task}, {line.run} is {'better' if line.difference.value > 0 else 'worse'} than {first} by "
            f"{abs(line.difference.value):.2f} points of {line.metric} (p {_p(line.p)})"
            for line in apart
            if line.difference is not None and line.p is not None
        )
        parts.append(f"Beyond noise: {'; '.join(named)}.")
    if alike:
        named = dict.fromkeys(f"{line.run} on {line.task}" if several else line.task for line in alike)
        parts.append(f"No significant difference from {first}: {', '.join(named)}.")
    return " ".join(parts)


def _cells(line: Line) -> list[str]:
    spread = "" if line.spread is None else f" ± {line.spread:.2f}"
    cells = [line.task, line.metric, line.run, f"{line.score:.2f}{spread}"]
    if line.difference is None:
        return [*cells, "", "", ""]
    difference = line.difference
    gain = f"**{difference.value:+.2f}**" if line.is_significant else f"{difference.value:+.2f}"
    interval = f"{difference.low:+.2f} … {difference.high:+.2f}"
    return [*cells, gain, interval, "" if line.p is None else _p(line.p).removeprefix("= ")]


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
