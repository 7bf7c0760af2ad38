"""The score of a suite of tasks, such as GLUE (Wang et al. 2018).

A task's score is the mean of its metrics, and the suite's score is the mean over tasks. Published averages differ: the
leaderboard includes WNLI and counts MNLI once, as the mean of its two test sets, while Devlin et al. 2019 omit WNLI and
count MNLI twice. The protocol is therefore spelled out next to the number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from data_prep.errors import UserError, choices

GLUE = {
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("accuracy", "f1"),
    "mnli": ("accuracy",),
    "mnli-mm": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}
"""The metrics of each task; `mnli-mm` is MNLI's mismatched set, whose genres are not in the training data."""
_TWO_SETS = ("mnli", "mnli-mm")


@dataclass(frozen=True)
class SuiteScore:
    """score: the mean over `tasks`; missing: tasks without a score; protocol: how it was computed, in words."""

    score: float
    tasks: dict[str, float]
    missing: tuple[str, ...]
    protocol: str


def suite_score(
    name: str, metrics: Mapping[str, Sequence[str]], values: Mapping[str, Mapping[str, float]], split: str, seeds: int
) -> SuiteScore:
    """The mean over a suite's tasks of the mean of each task's metrics.

    name: of the suite. metrics: the metrics that count, by task. values: percentages by task and metric; other metrics
    are ignored. split, seeds: for the protocol, the rows and the number of repetitions that `values` are means of.
    UserError for unknown tasks, missing metrics, or no task at all.
    """
    scores: dict[str, float] = {}
    for task, of_task in values.items():
        if task not in metrics:
            raise UserError(f"{name} has no task {task!r}; {choices(task, metrics)}.")
        lacking = [metric for metric in metrics[task] if metric not in of_task]
        if lacking:
            counted_by, absent = " and ".join(metrics[task]), " and no ".join(lacking)
            raise UserError(f"{task} is scored by {counted_by}, but has no {absent}.")
        scores[task] = fmean(of_task[metric] for metric in metrics[task])
    if not scores:
        raise UserError(f"there is no task of {name} to average; allowed: {', '.join(metrics)}.")
    return _suite(name, scores, len(metrics), [task for task in metrics if task not in scores], split, seeds)


def glue_score(
    values: Mapping[str, Mapping[str, float]],
    split: str,
    seeds: int,
    *,
    wnli: bool = True,
    mnli_twice: bool = False,
) -> SuiteScore:
    """The GLUE score; see `suite_score`.

    wnli: include WNLI. mnli_twice: count each of MNLI's test sets as a task.
    """
    tasks = {task: metrics for task, metrics in GLUE.items() if wnli or task != "wnli"}
    given = {task: metrics for task, metrics in values.items() if wnli or task != "wnli"}
    made = suite_score("GLUE", tasks, given, split, seeds)
    scores = dict(made.tasks)
    if not mnli_twice:
        sets = [scores.pop(name) for name in _TWO_SETS if name in scores]
        scores |= {"mnli": fmean(sets)} if sets else {}
    made = _suite("GLUE", scores, len(tasks) - (not mnli_twice), made.missing, split, seeds)
    about = f" {'With' if 'wnli' in scores else 'Without'} WNLI; {_about_mnli(given, mnli_twice)}."
    return replace(made, protocol=made.protocol + about)


def _suite(
    name: str, scores: dict[str, float], num_tasks: int, missing: Sequence[str], split: str, seeds: int
) -> SuiteScore:
    protocol = (
        f"Mean of {len(scores)} of {num_tasks} tasks of {name} on {split}, "
        f"{'one seed' if seeds == 1 else f'means of {seeds} seeds'}; a task's score is the mean of its metrics."
    )
    if missing:
        protocol += f" Missing: {', '.join(missing)}."
    return SuiteScore(fmean(scores.values()), scores, tuple(missing), protocol)


def _about_mnli(values: Collection[str], twice: bool) -> str:
    there = [name for name in _TWO_SETS if name in values]
    if not there:
        return "without MNLI"
    if len(there) == 1:
        return f"of MNLI's two test sets only {there[0]}"
    return f"MNLI counts {'twice, for its two test sets' if twice else 'once, as the mean of its two test sets'}"
