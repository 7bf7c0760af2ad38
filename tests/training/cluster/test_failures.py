"""A failed group of workers: what is tried again, and what ends the run."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from data_prep.errors import UserError
from tests.training.test_launch import job
from training import launch
from training.cluster import room
from training.cluster.failures import NotFormedError, UnreachableError, failures_in
from training.job import STOP

LOST = {1: WorkerHealthCheckFailedError("a check failed", failure=ActorDiedError())}
SILENT = {1: WorkerHealthCheckTimeoutError("a check hangs")}
CLOSED = {0: RuntimeError("[gloo/pair.cc:534] Connection closed by peer [10.0.0.3]:41234")}


def raised(cause: Exception) -> RayTaskError:
    """What Ray makes of an exception in a worker."""
    return RayTaskError("execute", "traceback", cause)


def workers(failures: dict[int, Any]) -> WorkerGroupError:
    return WorkerGroupError("some failed", failures)


def test_failures_are_unwrapped() -> None:
    value, user = ValueError("a"), UserError("b")
    assert failures_in(workers({1: raised(value), 0: user})) == [user, value]
    assert failures_in(ControllerError(raised(user))) == [user]
    assert failures_in(ControllerError(user)) == [user]
    assert failures_in(value) == [value]


class Attempts:
    """Stands for Ray's trainer: each attempt raises the next of some errors, then one trains."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    def fit(self) -> Any:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return self

    return_value = "trained"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains a job by these attempts. steps: of the newest checkpoint after each."""

    def run(attempts: Attempts, steps: tuple[int, ...] = (), **placement: Any) -> Any:
        newest = iter(steps)
        for name, stand_in in {
            "ensure_ray": lambda placement: None,
            "_trainer": lambda *arguments: attempts,
            "_newest_step": lambda work: next(newest, 0),
        }.items():
            monkeypatch.setattr(launch, name, stand_in)
        monkeypatch.setattr(room, "check", lambda *arguments: None)
        monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
        pretraining = job(tmp_path, workers=2, **placement)
        Path(pretraining.work).mkdir()
        return launch._run_on_ray(pretraining)

    return run


@pytest.mark.parametrize("error", [workers(LOST), workers(CLOSED), workers({0: ValueError("odd")})])
def test_a_failure_is_tried_again(run: Any, error: Exception) -> None:
    attempts = Attempts(error)
    assert run(attempts) == "trained" and attempts.made == 2


@pytest.mark.parametrize("failures", [LOST, SILENT, CLOSED])
def test_losses_are_tried_again_as_often_as_is_allowed(run: Any, failures: dict[int, Any]) -> None:
    attempts = Attempts(*[workers(failures)] * 9)
    with pytest.raises(WorkerGroupError):
        run(attempts, max_failures=3)
    assert attempts.made == 4


def test_the_same_failure_twice_without_a_new_checkpoint_ends_the_run(run: Any) -> None:
    first, second = ({0: raised(RuntimeError(f"process {pid}: out of memory"))} for pid in (4711, 4712))
    attempts = Attempts(workers(first), workers(second), workers(first))
    with pytest.raises(WorkerGroupError, match="some failed"):
        run(attempts, steps=(5, 5))
    assert attempts.made == 2


def test_the_same_failure_after_a_new_checkpoint_is_tried_again(run: Any) -> None:
    attempts = Attempts(*[workers({0: raised(RuntimeError("out of memory"))})] * 3)
    assert run(attempts, steps=(5, 10, 15)) == "trained" and attempts.made == 4


def test_another_failure_is_tried_again(run: Any) -> None:
    attempts = Attempts(workers({0: RuntimeError("this")}), workers({0: RuntimeError("that")}))
    assert run(attempts) == "trained" and attempts.made == 3


def test_hosts_that_do_not_reach_each_other_end_the_run_unless_one_was_lost(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = ControllerError(UnreachableError("host 10.0.0.1 cannot reach host 10.0.0.2"))
    monkeypatch.setattr(room, "loses_a_host", lambda: True)
    attempts = Attempts(apart)
    assert run(attempts) == "trained" and attempts.made == 2


def test_hosts_that_never_reach_each_other_are_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = ControllerError(UnreachableError("host 10.0.0.1 cannot reach host 10.0.0.2"))
    monkeypatch.setattr(room, "loses_a_host", lambda: False)
    attempts = Attempts(*[apart] * 4)
    with pytest.raises(UserError, match="cannot reach host"):
        run(attempts)
    assert attempts.made == 1


def test_a_process_group_that_does_not_form_twice_is_one_sentence(run: Any) -> None:
    attempts = Attempts(*[ControllerError(NotFormedError("they form no process group (timed out)"))] * 4)
    with pytest.raises(UserError, match="they form no process group"):
        run(attempts)
    assert attempts.made == 2


@pytest.mark.parametrize(
    "error",
    [
        workers({0: raised(UserError("a mistake"))}),
        ControllerError(raised(UserError("a mistake"))),
        UserError("a mistake"),
        workers({0: raised(OSError(errno.ENOSPC, "a mistake"))}),
    ],
)
def test_what_the_user_must_mend_is_not_tried_again(run: Any, error: Exception) -> None:
    attempts = Attempts(error)
    with pytest.raises((UserError, OSError), match="a mistake"):
        run(attempts)
    assert attempts.made == 1


def test_a_bug_here_is_not_tried_again(run: Any) -> None:
    attempts = Attempts(TypeError("of ours"))
    with pytest.raises(TypeError, match="of ours"):
        run(attempts)
    assert attempts.made == 1


@pytest.mark.parametrize("error", [workers(LOST), ConnectionError("Ray is gone")])
def test_a_run_that_was_to_end_ends_as_interrupted(run: Any, error: Exception, tmp_path: Path) -> None:
    work = Path(job(tmp_path, workers=2).work)

    class Stopped(Attempts):
        def fit(self) -> Any:
            (work / STOP).touch()
            return super().fit()

    with pytest.raises(KeyboardInterrupt):
        run(Stopped(error))
