"""A training that is asked to stop leaves a checkpoint at the step all workers agreed on, and goes on from there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training import tiny
from tests.training.group import in_group
from training.config import PlacementConfig
from training.distributed import Worker
from training.engines import checkpoint
from training.monitor import stopping
from training.monitor.stopping import StopRequest, ask, listening


@pytest.fixture
def again() -> Iterator[list[int]]:
    """Signals that come after the first one."""
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    yield came
    signal.signal(signal.SIGUSR1, before)


def test_nobody_listens() -> None:
    assert ask(signal.SIGINT) is False


def test_a_wish_reaches_whoever_looks_and_ends_in_an_interrupt(tmp_path: Path, again: list[int]) -> None:
    notified = threading.Event()
    file = tmp_path / "work" / "stop"
    asked = StopRequest(file)
    with pytest.raises(KeyboardInterrupt), listening(file, grace=60, notify=notified.set):
        assert not asked()
        assert ask(signal.SIGUSR1)
        assert not ask(signal.SIGUSR1)  # once more is not heard: it ends the run
        assert notified.wait(10)
        time.sleep(stopping.LOOK_SECONDS)
        assert asked()
    assert not file.exists() and again == []
    assert not ask(signal.SIGUSR1)


def test_who_was_not_asked_goes_on(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()  # of a run that was killed
    with listening(tmp_path / "stop", grace=0):
        assert not StopRequest(tmp_path / "stop")()


def test_what_does_not_stop_in_time_is_ended_by_the_signal(tmp_path: Path, again: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt), listening(tmp_path / "stop", grace=0.2):
        ask(signal.SIGUSR1)
        for _ in range(1000):
            time.sleep(0.01)
            if again:
                break
    assert again == [signal.SIGUSR1]


def test_a_failure_is_told_before_the_wish(tmp_path: Path, again: list[int]) -> None:
    with pytest.raises(ValueError, match="broken"), listening(tmp_path / "stop", grace=60):
        ask(signal.SIGUSR1)
        raise ValueError("broken")


def test_in_another_thread_nothing_is_heard(tmp_path: Path) -> None:
    heard: list[bool] = []

    def run() -> None:
        with listening(tmp_path / "stop", grace=0):
            heard.append(ask(signal.SIGUSR1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [False]


def _stopped(worker: Worker, folder: Path, zero: int | None) -> dict[str, Any]:
    """Losses of a run, and of one that its last worker alone is told to stop in step 6 of 12."""
    placement = PlacementConfig(workers=worker.world, zero=zero)  # type: ignore[arg-type]
    uninterrupted: list[dict[str, Any]] = []
    tiny.training(worker, placement=placement, log_every=4, log=uninterrupted.append).run()
    parts: list[dict[str, Any]] = []
    first = tiny.training(worker, placement=placement, checkpoints=folder, log_every=4, log=parts.append)
    first.stop = lambda: worker.rank == worker.world - 1 and first.watchdog.step == 6
    summary = first.run()
    left = [saved.position.step for saved in checkpoint.committed(folder)]
    worker.barrier()
    second = tiny.training(worker, placement=placement, checkpoints=folder, log_every=4, log=parts.append).run()
    return {
        "first": (summary["step"], summary["stopped"]),
        "left": left,
        "second": (second["resumed_from"], second["step"], second["stopped"]),
        "whole": [(r["step"], r["train/loss"]) for r in uninterrupted if "train/loss" in r],
        "parts": [(r["step"], r["train/loss"]) for r in parts if "train/loss" in r],
    }


@pytest.mark.parametrize(
    ("world", "zero"),
    [(1, None), (2, 2), pytest.param(2, None, marks=pytest.mark.slow), pytest.param(2, 3, marks=pytest.mark.slow)],
)
def test_all_workers_stop_after_the_same_step_and_go_on_bit_equal(tmp_path: Path, world: int, zero: int | None) -> None:
    results = in_group(world, _stopped, tmp_path, zero) if world > 1 else [_stopped(Worker(), tmp_path, zero)]
    for rank, of in enumerate(results):
        assert of["first"] == (6, True), rank
        assert of["left"] == [6], rank
        assert of["second"] == (6, 12, False), rank
    assert [step for step, _ in results[0]["whole"]] == [4, 8, 12]
    assert results[0]["parts"] == results[0]["whole"]  # the record of step 8 knows of the steps before the stop
