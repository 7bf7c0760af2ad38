"""Runs a function on many jobs: in this process, in processes of this machine, or as tasks of a Ray cluster.

Results are returned in the order of the jobs, and only a few jobs are in progress at a time, so memory does not grow
with their number. Results do not depend on where jobs run: jobs are plain values and write files.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.abc import MetaPathFinder
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from data_prep import private
from data_prep.compute import cluster, cores
from data_prep.errors import UserError
from data_prep.legible import log_legibly, safe_errors

J = TypeVar("J")
R = TypeVar("R")
SERIAL_BYTES = 8 << 20  # for less input than this, starting processes does not pay off
_AHEAD = 2  # queued jobs per running job
_PR_SET_PDEATHSIG = 1


class Workers(NamedTuple):
    """Where jobs run. `processes`: on this machine (1: in this process); `ray`: address of a cluster to use instead.

    folder: one that all hosts of the cluster must share, as jobs read and write files.
    """

    processes: int = 1
    ray: str | None = None
    folder: Path | None = None

    @staticmethod
    def of(processes: int | None, ray: str | None, folder: Path | None = None) -> Workers:
        """`processes` defaults to the number of available cores."""
        return Workers(processes or cores.available(), ray, folder)


HERE = Workers()  # this process itself


class WorkerPool:
    """Worker processes, started with the first jobs and stopped at the end of the `with` block. Starting takes 1 s."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._pool is not None:
            if kind is not None:  # unfinished results are not needed
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def in_order(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
        """Yields `function(job)` for every job, in order. An exception in a job is raised here."""
        if self.workers.ray is not None:
            return _on_ray(function, jobs, self.workers.ray, self.workers.folder)
        if self.workers.processes <= 1:
            return map(function, jobs)
        if self._pool is None:
            processes = self.workers.processes
            self._pool = ProcessPoolExecutor(
                processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
            )
        return _on_processes(function, jobs, self._pool, self.workers.processes)


def _on_processes(
    function: Callable[[J], R], jobs: Sequence[J], pool: ProcessPoolExecutor, processes: int
) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= processes * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a process that prepared data was ended from outside (often for want of memory); what is finished is kept: "
            "run again, with a lower placement.data_workers if memory is short"
        ) from None


def end_with(parent: int) -> None:
    """Have this process leave Ctrl-C to its parent, and end with the thread of it that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before this point
        os._exit(1)


def _begin(parent: int) -> None:
    """Initialise a worker."""
    end_with(parent)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # one core per process
    sys.meta_path.insert(0, _NoPandas())
    log_legibly()


class _NoPandas(MetaPathFinder):
    """Hides pandas from pyarrow, which would import it with its first array: 0.2 s and 40 MB per process."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("workers do without pandas", name=fullname)


def _on_ray(function: Callable[[J], R], jobs: Sequence[J], address: str, folder: Path | None) -> Iterator[R]:
    import ray
    from ray.exceptions import RayError, RayTaskError

    if not ray.is_initialized():
        cluster.join(address)
    shared = cluster.Shared.mark(folder) if folder else None
    # Ray's own retries cover lost nodes; exceptions of the function itself are raised here. `future` waits outside
    # Ray's core, in which a signal's exception would be lost.
    remote: Any = ray.remote(num_cpus=1, max_retries=3, scheduling_strategy="SPREAD")(called)
    waiting: deque[Any] = deque()
    try:
        for job in jobs:
            waiting.append(remote.remote(function, job, shared, private.umask()))
            if len(waiting) >= max(1, int(ray.cluster_resources().get("CPU", 1))) * _AHEAD:
                yield waiting.popleft().future().result()
        while waiting:
            yield waiting.popleft().future().result()
    except RayTaskError as error:
        raise error.cause from error  # the function's own exception
    except RayError as error:
        raise UserError(
            f"the cluster at {address!r} lost jobs that prepared data ({cluster.first_line(error)}); what is finished "
            "is kept: run again"
        ) from error
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


@safe_errors  # Ray writes them to its logs
def called(function: Callable[[J], R], job: J, shared: cluster.Shared | None, umask: int) -> R:
    """`function(job)` on a host of a cluster, once it sees what all hosts share."""
    os.umask(umask)  # Ray was started by somebody's shell
    log_legibly()
    if shared is not None:
        shared.check()
    return function(job)
