"""How OpenMP's threads wait, and how many cores there are: both settled by what the process is given."""

from __future__ import annotations

import os
import subprocess
import sys

import joblib
import pytest

from data_prep.compute import cores
from data_prep.compute.workers import Workers
from training import waiting
from training.cost.step_benchmark import Moment, undisturbed


def variables(*given: str) -> list[str]:
    """What the variables are once something of `training` has been imported, and whether torch has."""
    code = (
        "import sys, os, training.hardware\n"
        "print(*(os.environ.get(name) for name in sys.argv[1:]), 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in waiting.BRIEFLY}
    environment |= dict(setting.split("=") for setting in given)
    command = [sys.executable, "-c", code, *waiting.BRIEFLY]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_threads_wait_briefly_in_every_process_that_trains_unless_the_user_says_how() -> None:
    assert variables() == [*waiting.BRIEFLY.values(), "False"]
    assert variables("OMP_WAIT_POLICY=ACTIVE") == ["ACTIVE", "None", "False"]


def test_cores_are_those_that_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.available() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    assert cores.available() == 3 and Workers.of(None, None).processes == 3


def steps(clock: list[float], processor: list[float]) -> list[Moment]:
    return [Moment(*pair) for pair in zip(clock, processor, strict=True)]


@pytest.mark.parametrize(
    ("clock", "processor", "alone", "expected"),
    [
        ([2.0] * 8, [4.0] * 8, True, 2.0),  # two threads, nothing else
        ([2.0] * 8, [1.0] * 8, False, 2.0),  # the half of it for other workers
        ([40.0] * 4 + [2.0] * 2 + [40.0] * 2, [4.0] * 8, True, 2.0),  # other work for most of the time
        ([40.0] * 8, [4.0] * 8, True, 4.0),  # all the time
        ([3.0], [9.0], True, 3.0),
    ],
)
def test_a_step_s_time_is_taken_where_other_work_disturbs_it_least(
    clock: list[float], processor: list[float], alone: bool, expected: float
) -> None:
    mean = undisturbed(steps(clock, processor), lambda values: sum(values) / len(values), alone)
    assert mean == expected
