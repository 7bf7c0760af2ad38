"""Ends a run in which a worker keeps the others waiting, and reports which one.

    work/stacks/rank-0.txt      empty while all is well; else a line on what the worker is doing, and its Python stacks
    work/stacks/rank-1.txt
    work/stacks/verdict.txt     one sentence, for the process that started the workers

A thread in every worker checks how long ago the training loop last called `at`. After the limit, or once another
worker has written its stacks, it writes its own, waits a while for the others' and ends the process: what hangs inside
a collective call, or holds the interpreter's lock, cannot be stopped otherwise. In the latter case the stacks are
written by a thread of `faulthandler` that needs no lock; a stopped process writes none, and the others report that.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.distributed import Worker

VERDICT = "verdict.txt"
STOOD_STILL = 70  # exit code
SPARE = 4  # looks by which `faulthandler` waits longer than the thread that looks, which knows more
COLLECTIVES = ("torch.distributed", "deepspeed.comm", "training.distributed")  # modules in which workers wait


class Watchdog:
    """Monitors the loop inside `with`, except for a lone worker or one without a folder for stacks.

    limit: seconds between two calls of `at`; 0: none.
    """

    def __init__(self, folder: Path | None, worker: Worker, limit: float) -> None:
        self.folder, self.worker, self.limit = folder, worker, limit
        self.step = 0
        self.came = (time.monotonic(), 0, "starting")
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def at(self, place: str) -> None:
        """The loop has reached `place`. Called equally often by every worker."""
        self.came = (time.monotonic(), self.came[1] + 1, place)

    def __enter__(self) -> Watchdog:
        if self.folder is None or self.worker.world == 1 or self.limit == 0:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = _path(self.folder, self.worker.rank).open("w")
        self.watched = threading.get_ident()
        self.at("starting")
        self._wind_up()  # here: the first look may never come
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.thread is not None:
            self.ended.set()
            self.thread.join()
            faulthandler.cancel_dump_traceback_later()
            self.file.close()

    def _wind_up(self) -> None:
        """Have `faulthandler` write the stacks unless this is called again in time."""
        faulthandler.dump_traceback_later(self.limit + SPARE * look_seconds(self.limit), file=self.file)

    def _watch(self) -> None:
        assert self.folder is not None
        last_count = self.came[1]
        while not self.ended.wait(look_seconds(self.limit)):
            since, count, _ = self.came
            if count != last_count:
                last_count = count
                self._wind_up()
            if time.monotonic() - since > self.limit or _written(self.folder, self.worker.world):
                faulthandler.cancel_dump_traceback_later()
                self._give_up(patience_seconds(self.limit))

    def _give_up(self, patience: float) -> None:
        assert self.folder is not None
        since, count, place = self.came
        report = {
            "rank": self.worker.rank,
            "step": self.step,
            "count": count,
            "place": place,
            "seconds": round(time.monotonic() - since, 1),
            "waits": self._waits(),
        }
        self.file.write(json.dumps(report) + "\n")
        self.file.flush()
        faulthandler.dump_traceback(self.file)
        until = time.monotonic() + patience
        while time.monotonic() < until and len(_written(self.folder, self.worker.world)) < self.worker.world:
            time.sleep(0.05)
        if self.ended.is_set():  # it went on after all
            return
        _write_once(self.folder / VERDICT, judge(self.folder, self.worker.world, self.limit))
        os._exit(STOOD_STILL)

    def _waits(self) -> bool:
        """Whether the loop is inside a call that waits for other workers."""
        frame = sys._current_frames().get(self.watched)
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith(COLLECTIVES):
                return True
            frame = frame.f_back
        return False


def look_seconds(limit: float) -> float:
    """Seconds between two checks of the loop."""
    return min(max(limit / 20, 0.05), 5.0)


def patience_seconds(limit: float) -> float:
    """Seconds to wait for the stacks of the others.

    A worker that holds the interpreter's lock writes them later than others: `faulthandler`'s clock is started a check
    after its last call of `at`, and runs SPARE checks longer. And that call may have been later than those of the
    workers that wait for it.
    """
    return (SPARE + 1) * look_seconds(limit) + min(max(limit / 10, 2.0), 60.0)


def verdict(folder: Path) -> str | None:
    """Why a run was ended, as a sentence; None if it was not."""
    with contextlib.suppress(FileNotFoundError):
        return (folder / VERDICT).read_text()
    return None


def clear(folder: Path) -> None:
    """Remove the files of an earlier run."""
    for path in (*folder.glob("rank-*.txt"), folder / VERDICT):
        path.unlink(missing_ok=True)


def judge(folder: Path, world: int, limit: float) -> str:
    """Which workers did not arrive where the others wait, as a sentence, from what each worker wrote."""
    reports = {rank: _read(_path(folder, rank)) for rank in _written(folder, world)}
    complete = {rank: report for rank, report in reports.items() if report}
    furthest = max((report["count"] for report in complete.values()), default=0)
    late = {rank for rank in range(world) if rank not in complete or complete[rank]["count"] < furthest}
    late = late or {rank for rank, report in complete.items() if not report["waits"]}
    where = f"step {max((report['step'] for report in complete.values()), default=0):,}"
    files = f"the stacks are in {folder}/rank-*.txt"
    if not late or len(late) == world:
        return f"training stood still at {where}: every worker has waited for the others for {limit:g} s; {files}."
    are = ", ".join(f"worker {rank} {_doing(complete.get(rank), rank in reports)}" for rank in sorted(late))
    others = ", ".join(str(rank) for rank in range(world) if rank not in late)
    return (
        f"training stood still at {where}: {are}, and {others} waited longer than {limit:g} s "
        f"(placement.watch.stuck_seconds); {files}, and the run can be resumed from its newest checkpoint."
    )


def _doing(report: Mapping[str, Any] | None, wrote: bool) -> str:
    if report is None:
        return f"did not arrive (it does not answer, {'only' if wrote else 'not even'} with its stacks)"
    return f"did not arrive (it has been {report['place']} for {report['seconds']:.0f} s)"


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.txt"


def _written(folder: Path, world: int) -> list[int]:
    """Ranks that wrote something."""
    ranks = []
    for rank in range(world):
        with contextlib.suppress(FileNotFoundError):
            if _path(folder, rank).stat().st_size:
                ranks.append(rank)
    return ranks


def _read(path: Path) -> dict[str, Any] | None:
    """The first line of a worker's file; None if only `faulthandler` wrote to it."""
    with path.open() as file:
        line = file.readline()
    return json.loads(line) if line.startswith("{") and line.endswith("\n") else None


def _write_once(path: Path, text: str) -> None:
    """The first of several writers counts, and readers see all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
