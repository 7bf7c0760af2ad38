"""The GLUE score: published averages from published scores of tasks."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from pipeline.downstream.metrics.suite import GLUE, glue_score, suite_score

ORDER = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli")
SMALL_BERTS = {  # test set; MRPC and QQP as F1/accuracy, STS-B as Pearson/Spearman (Turc et al. 2019, released models)
    65.8: (0.0, 85.9, (81.1, 71.8), (75.4, 73.3), (66.4, 86.2), 74.8, 74.3, 84.1, 57.9, 62.3),
    71.2: (27.8, 89.7, (83.4, 76.2), (78.8, 77.0), (68.1, 87.0), 77.6, 77.0, 86.4, 61.8, 62.3),
    73.5: (38.0, 89.6, (86.6, 81.6), (80.4, 78.4), (69.6, 87.9), 80.0, 79.1, 87.7, 62.2, 62.3),
}


def by_task(row: tuple) -> dict[str, dict[str, float]]:
    """Scores by task and metric."""
    values = {}
    for task, score in zip(ORDER, row, strict=True):
        both = score if isinstance(score, tuple) else (score,) * len(GLUE[task])
        values[task] = dict(zip(GLUE[task], both, strict=True))
    return values


@pytest.mark.parametrize("published", SMALL_BERTS)
def test_published_scores_of_the_leaderboard(published: float) -> None:
    found = glue_score(by_task(SMALL_BERTS[published]), "test", 1)
    assert round(found.score, 1) == published
    assert len(found.tasks) == 9 and found.missing == ()
    assert "Mean of 9 of 9 tasks of GLUE on test, one seed" in found.protocol
    assert "With WNLI; MNLI counts once" in found.protocol


def test_the_average_of_bert() -> None:
    """Devlin et al. 2019, table 1, BERT-base: 79.6, without WNLI, with MNLI twice, and one metric for each task."""
    row = (52.1, 93.5, 88.9, 85.8, 71.2, 84.6, 83.4, 90.5, 66.4, 0.0)
    found = glue_score(by_task(row), "test", 1, wnli=False, mnli_twice=True)
    assert round(found.score, 1) == 79.6
    assert "9 of 9" in found.protocol and "Without WNLI; MNLI counts twice" in found.protocol
    assert "wnli" not in found.tasks


def test_what_is_missing_is_said() -> None:
    values = {task: dict.fromkeys(GLUE[task], 50.0) for task in ("cola", "mnli", "rte")}
    values["rte"] = {"accuracy": 80.0, "f1": 0.0}
    found = glue_score(values, "dev", 5)
    assert found.score == pytest.approx(60), "a metric that the task does not count is left out"
    assert found.missing == ("sst2", "mrpc", "stsb", "qqp", "mnli-mm", "qnli", "wnli")
    assert found.protocol == (
        "Mean of 3 of 9 tasks of GLUE on dev, means of 5 seeds; a task's score is the mean of its metrics. Missing: "
        "sst2, mrpc, stsb, qqp, mnli-mm, qnli, wnli. Without WNLI; of MNLI's two test sets only mnli."
    )


def test_any_suite() -> None:
    metrics = {"tnews": ("accuracy",), "afqmc": ("accuracy", "f1"), "csl": ("accuracy",)}
    made = suite_score(
        "CLUE", metrics, {"tnews": {"accuracy": 50}, "afqmc": {"accuracy": 70, "f1": 30, "exact": 9}}, "dev", 1
    )
    assert (made.score, made.tasks, made.missing) == (50, {"tnews": 50, "afqmc": 50}, ("csl",))
    assert made.protocol.startswith("Mean of 2 of 3 tasks of CLUE on dev, one seed;")


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(UserError, match="GLUE has no task 'sst-2'"):
        glue_score({"sst-2": {"accuracy": 1.0}}, "dev", 1)
    with pytest.raises(UserError, match="mrpc is scored by accuracy and f1, but has no f1"):
        glue_score({"mrpc": {"accuracy": 1.0}}, "dev", 1)
    with pytest.raises(UserError, match="there is no task of GLUE"):
        glue_score({"wnli": {"accuracy": 1.0}}, "dev", 1, wnli=False)
