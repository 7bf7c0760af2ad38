"""The score of a suite of tasks, such as GLUE's (Wang et al. 2018).

A task's score is the mean of its metrics; the score of the suite is the mean over its tasks. Published averages are not
all alike: the leaderboard has WNLI and counts MNLI once, as the mean of its two test sets; Devlin et al. 2019 leave
WNLI out and count MNLI twice. So what was done is said beside the number.
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
"""Metrics of each task; `mnli-mm` is the test set of MNLI that is not of the genres that it was trained on."""
_TWO_SETS = ("mnli", "mnli-mm")


@dataclass(frozen=True)
class SuiteScore:
    """score: the mean over `tasks`, whose scores are given; missing: tasks that it lacks; protocol: in a sentence."""

    score: float
    tasks: dict[str, float]
    missing: tuple[str, ...]
    protocol: str


def suite_score(
    name: str, metrics: Mapping[str, Sequence[str]], values: Mapping[str, Mapping[str, float]], split: str, seeds: int
) -> SuiteScore:
    """The mean over a suite's tasks of the mean of each one's metrics.

    name: of the suite. metrics: names of those of each task. values: percentages by task and metric; those of metrics
    that a task does not count are left out. split, seeds: which rows, and how many repetitions `values` are means of,
    for the protocol. UserError for a task of another name, for one that lacks a metric, and if no task is there.
    """
    scores: dict[str, float] = {}
    for task, of_task in values.items():
        if task not in metrics:
            raise UserError(f"{name} has no task {task!r}; {choices(task, metrics)}.")
        lacking = [metric for metric in metrics[task] if metric not in of_task]
        if lacking:
            counted_by, absent = " and ".join(metrics[task]), " and no ".join(lacking)
            raise UserError(f"{task} counts by {counted_by}, of which it has no {absent}.")
        scores[task] = fmean(of_task[metric] for metric in metrics[task])
    if not scores:
        raise UserError(f"no task of {name} is there to be averaged; allowed: {', '.join(metrics)}.")
    return _suite(name, scores, len(metrics), [task for task in metrics if task not in scores], split, seeds)


def glue_score(
    values: Mapping[str, Mapping[str, float]],
    split: str,
    seeds: int,
    *,
    wnli: bool = True,
    mnli_twice: bool = False,
    from_mnli: bool = False,
) -> SuiteScore:
    """The GLUE score, as `suite_score` gives it, by the protocol that is asked for.

    wnli: whether it is in. mnli_twice: each of MNLI's test sets is a task of its own. from_mnli: whether RTE, MRPC and
    STS-B began with a network that was fine-tuned on MNLI, for the protocol.
    """
    tasks = {task: metrics for task, metrics in GLUE.items() if wnli or task != "wnli"}
    given = {task: metrics for task, metrics in values.items() if wnli or task != "wnli"}
    made = suite_score("GLUE", tasks, given, split, seeds)
    scores = dict(made.tasks)
    if not mnli_twice:
        sets = [scores.pop(name) for name in _TWO_SETS if name in scores]
        scores |= {"mnli": fmean(sets)} if sets else {}
    made = _suite("GLUE", scores, len(tasks) - (not mnli_twice), made.missing, split, seeds)
    about = (
        f" WNLI is {'in' if 'wnli' in scores else 'not in'}; {_about_mnli(given, mnli_twice)}; RTE, MRPC and STS-B "
        f"{'begin' if from_mnli else 'do not begin'} with a network fine-tuned on MNLI."
    )
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
        return "MNLI is not in"
    if len(there) == 1:
        return f"of MNLI's two test sets only {there[0]} is in"
    return f"MNLI counts {'twice, for its two test sets' if twice else 'once, as the mean of its two test sets'}"
