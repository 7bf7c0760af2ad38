"""The score of a suite of tasks: GLUE's (Wang et al. 2018).

A task's score is the mean of its metrics; the score of the suite is the mean over its tasks. Published averages are not
all alike: the leaderboard has WNLI and counts MNLI once, as the mean of its two test sets; Devlin et al. 2019 leave
WNLI out and count MNLI twice. So what was done is said beside the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
_CONTINUED = "RTE, MRPC and STS-B"


@dataclass(frozen=True)
class SuiteScore:
    """score: the mean over `tasks`, whose scores are given; missing: tasks that it lacks; protocol: in a sentence."""

    score: float
    tasks: dict[str, float]
    missing: tuple[str, ...]
    protocol: str


def glue_score(
    values: Mapping[str, Mapping[str, float]],
    split: str,
    seeds: int,
    *,
    wnli: bool = True,
    mnli_twice: bool = False,
    from_mnli: bool = False,
) -> SuiteScore:
    """The GLUE score of percentages by task and metric.

    split, seeds: which rows, and how many repetitions `values` are means of, for the protocol. wnli: whether it is in.
    mnli_twice: each of MNLI's test sets is a task of its own. from_mnli: whether RTE, MRPC and STS-B began with a
    network that was fine-tuned on MNLI. Metrics that a task does not count are left out. UserError for a task of
    another name, for one that lacks a metric, and if no task is there.
    """
    scores: dict[str, float] = {}
    for task, metrics in values.items():
        if task not in GLUE:
            raise UserError(f"GLUE has no task {task!r}; {choices(task, GLUE)}.")
        lacking = [name for name in GLUE[task] if name not in metrics]
        if lacking:
            raise UserError(
                f"{task} counts by {' and '.join(GLUE[task])}, of which it has no {' and no '.join(lacking)}."
            )
        scores[task] = fmean(metrics[name] for name in GLUE[task])
    if not wnli:
        scores.pop("wnli", None)
    expected = [task for task in GLUE if task != "wnli" or wnli]
    missing = tuple(task for task in expected if task not in scores)
    counted = dict(scores)
    sets = [counted[name] for name in _TWO_SETS if name in counted]
    if not mnli_twice:
        expected.remove("mnli-mm")
        counted.pop("mnli-mm", None)
        if sets:
            counted["mnli"] = fmean(sets)
    if not counted:
        raise UserError(f"no task of GLUE is there to be averaged; allowed: {', '.join(expected)}.")
    protocol = (
        f"Mean of {len(counted)} of {len(expected)} tasks of GLUE on {split}, "
        f"{'one seed' if seeds == 1 else f'means of {seeds} seeds'}; a task's score is the mean of its metrics. "
        f"WNLI is {'in' if 'wnli' in counted else 'not in'}; {_about_mnli(scores, mnli_twice)}; {_CONTINUED} "
        f"{'begin' if from_mnli else 'do not begin'} with a network fine-tuned on MNLI."
    )
    if missing:
        protocol += f" Missing: {', '.join(missing)}."
    return SuiteScore(fmean(counted.values()), counted, missing, protocol)


def _about_mnli(scores: Mapping[str, float], twice: bool) -> str:
    there = [name for name in _TWO_SETS if name in scores]
    if not there:
        return "MNLI is not in"
    if len(there) == 1:
        return f"of MNLI's two test sets only {there[0]} is in"
    return f"MNLI counts {'twice, for its two test sets' if twice else 'once, as the mean of its two test sets'}"
