"""A worker that keeps the others waiting is named, with the stacks of all, however it hangs."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import start_processes

from tests.training import tiny
from training.config import PlacementConfig, WatchConfig
from training.distributed import Worker
from training.monitor import watchdog

pytestmark = pytest.mark.alone

LIMIT = 4.0  # seconds: more than a step takes on a busy machine


def sleeps() -> None:
    time.sleep(600)


def stops() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def holds_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(600)


def _member(rank: int, world: int, folder: str, hang: Callable[[], None], who: int, zero: int | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    placement = PlacementConfig(workers=world, zero=zero, watch=WatchConfig(stuck_seconds=LIMIT))  # type: ignore[arg-type]
    training = tiny.training(Worker(rank, world), placement=placement)
    training.watchdog.folder = Path(folder) / "stacks"
    read = training.stream.read

    def reading(samples: Any) -> Any:
        if rank == who and samples[0] >= 24 * 4:  # of step 5, read beside step 4
            hang()
        return read(samples)

    training.stream.read = reading  # type: ignore[method-assign]
    training.run()


def hung(
    folder: Path, hang: Callable[[], None], world: int = 2, who: int = 1, zero: int | None = None
) -> list[int | None]:
    """Exit codes of workers of which one hangs; None for one that still hangs when the others have ended."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.training.group_preload"])
    context: Any = start_processes(
        _member, (world, str(folder), hang, who, zero), nprocs=world, join=False, start_method="forkserver"
    )
    try:
        until = time.monotonic() + 120
        others = [process for rank, process in enumerate(context.processes) if rank != who]
        while time.monotonic() < until and any(process.is_alive() for process in others):
            time.sleep(0.1)
        context.processes[who].join(5)
        return [process.exitcode for process in context.processes]
    finally:
        for process in context.processes:
            process.kill()


@pytest.mark.slow  # real processes against the clock
@pytest.mark.parametrize("zero", [None, 2])
def test_a_worker_that_does_not_arrive_is_named(tmp_path: Path, zero: int | None) -> None:
    codes = hung(tmp_path, sleeps, world=3, zero=zero)
    # All end. Who is the last to look may find that another has gone already, and fail for that.
    assert codes[1] == watchdog.STOOD_STILL and None not in codes
    message = watchdog.verdict(tmp_path / "stacks")
    assert message is not None
    assert message.startswith("training stood still at step 5: worker 1 did not arrive (it has been loading for ")
    assert " s), and 0, 2 waited longer than 4 s (placement.watch.stuck_seconds); the stacks are in " in message
    stacks = [(tmp_path / "stacks" / f"rank-{rank}.txt").read_text() for rank in range(3)]
    assert all("most recent call first" in text for text in stacks)
    assert "in sleeps" in stacks[1] and "in sleeps" not in stacks[0]
    assert "in all_reduce" in stacks[0] and "in all_reduce" in stacks[2]
    watchdog.clear(tmp_path / "stacks")
    assert list((tmp_path / "stacks").iterdir()) == []


@pytest.mark.slow  # real processes against the clock
def test_a_worker_that_holds_the_interpreter_leaves_its_stack(tmp_path: Path) -> None:
    codes = hung(tmp_path, holds_the_interpreter)
    assert codes == [watchdog.STOOD_STILL, None]
    message = watchdog.verdict(tmp_path / "stacks")
    assert message is not None and "worker 1 did not arrive (it does not answer, only with its stacks)" in message
    assert "in holds_the_interpreter" in (tmp_path / "stacks" / "rank-1.txt").read_text()


@pytest.mark.slow  # real processes against the clock
def test_a_stopped_worker_is_named(tmp_path: Path) -> None:
    codes = hung(tmp_path, stops, who=0)
    assert codes == [None, watchdog.STOOD_STILL]
    message = watchdog.verdict(tmp_path / "stacks")
    assert message is not None and "worker 0 did not arrive (it does not answer, not even with its stacks)" in message


@pytest.mark.parametrize("limit", [0.01, 1, 8, 20, 60, 100, 600, 10_000])
def test_stacks_are_waited_for_until_the_last_can_have_been_written(limit: float) -> None:
    """By `faulthandler`, in a worker that came by just after a look, and a second later than who waits for it."""
    late = limit + (watchdog.SPARE + 1) * watchdog.look_seconds(limit)
    assert 1 + late < limit + watchdog.patience_seconds(limit)
    assert watchdog.patience_seconds(limit) < 100


def test_who_is_late_is_judged_by_what_each_wrote() -> None:
    def judged(*workers: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            for rank, text in enumerate(workers):
                (Path(folder) / f"rank-{rank}.txt").write_text(text)
            return watchdog.judge(Path(folder), len(workers), 9).replace(folder, "F")

    def line(count: int, waits: bool) -> str:
        values = f'"rank": 0, "step": 3, "count": {count}, "place": "computing", "seconds": 9.4, '
        return f'{{{values}"waits": {str(waits).lower()}}}\nThread 0x1 …\n'

    late = judged(line(5, True), line(4, True))
    assert "worker 1 did not arrive (it has been computing for 9 s), and 0 waited longer than 9 s" in late
    # All as far as each other: who is not in a call that waits is what the others wait for.
    assert "worker 0 did not arrive (it has been computing" in judged(line(5, False), line(5, True))
    assert judged(line(5, True), line(5, True)) == (
        "training stood still at step 3: every worker has waited for the others for 9 s; "
        "the stacks are in F/rank-*.txt."
    )


def test_a_run_in_which_all_is_well_leaves_nothing(tmp_path: Path) -> None:
    training = tiny.training(placement=PlacementConfig(watch=WatchConfig(stuck_seconds=0.01)), steps=3)
    training.watchdog.folder = tmp_path / "stacks"
    training.run()  # a lone worker waits for nobody
    assert not (tmp_path / "stacks").exists()
