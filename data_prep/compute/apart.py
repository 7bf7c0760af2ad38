"""Calls functions in processes of their own, several at once: on this machine, or as tasks of a Ray cluster.

What is called leaves nothing behind in this process: random generators, numbers of threads, memory. Results and
exceptions come back as they are; functions, arguments and results are pickled.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from data_prep import private
from data_prep.compute import cluster, workers
from data_prep.errors import UserError
from data_prep.legible import log_legibly

R = TypeVar("R")
_KIB = 1024


class Apart:
    """Where calls are made. Every call blocks its own thread; `end` ends all of them.

    ray: whether they are tasks of the cluster that this process has joined.
    """

    def __init__(self, ray: bool = False) -> None:
        self.ray = ray
        self._lock = threading.Lock()
        self._over = False
        self._calls: dict[int, Callable[[], None]] = {}
        """By thread, what ends its call."""

    def call(
        self,
        function: Callable[[], R],
        what: str,
        threads: int,
        needs: Mapping[str, float] | None = None,
        folder: Path | None = None,
    ) -> tuple[R, int]:
        """The result of the function, and the most memory that its process had, in bytes.

        what: names it in errors. threads: of the processor. On a cluster, needs: resources as Ray names them; folder:
        one that its hosts share. Raises what the function raises, KeyboardInterrupt after `end`, and UserError where
        its process was ended by others.
        """
        measured = partial(_measured, function)
        try:
            return (
                self._on_ray(measured, what, threads, needs or {}, folder)
                if self.ray
                else self._here(measured, what, threads)
            )
        finally:
            with self._lock:
                self._calls.pop(threading.get_ident(), None)

    def end(self) -> None:
        """End all calls; none is made from now on."""
        with self._lock:
            self._over = True
            for end in self._calls.values():
                end()

    def _here(self, function: Callable[[], R], what: str, threads: int) -> R:
        pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(), threads)
        )
        try:
            with self._lock:
                self._check_not_over()
                future = pool.submit(function)
                processes = list((pool._processes or {}).values())
                self._calls[threading.get_ident()] = partial(_terminate, processes)
            return future.result()
        except BrokenProcessPool:
            self._check_not_over()
            raise UserError(
                f"{what}: its process was ended from outside (often for want of memory); what is finished is kept: run "
                "again, with a lower placement.jobs if memory is short"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _on_ray(
        self, function: Callable[[], R], what: str, threads: int, needs: Mapping[str, float], folder: Path | None
    ) -> R:
        import ray
        from ray.exceptions import RayError, RayTaskError

        shared = cluster.Shared.mark(folder) if folder else None
        own = {**needs, "CPU": max(needs.get("CPU", 0.0), float(threads))}
        options = {"num_cpus": own.pop("CPU"), "num_gpus": own.pop("GPU", 0.0), "memory": own.pop("memory", None)}
        remote: Any = ray.remote(**options, resources=own, max_retries=3, scheduling_strategy="SPREAD")(workers.called)
        try:
            with self._lock:
                self._check_not_over()
                reference = remote.remote(_with_threads, (function, threads), shared, private.umask())
                self._calls[threading.get_ident()] = partial(ray.cancel, reference, force=True)
            return reference.future().result()
        except RayTaskError as error:
            raise error.cause from error  # the function's own exception
        except RayError as error:
            self._check_not_over()
            raise UserError(
                f"{what}: the cluster lost it ({cluster.first_line(error)}); what is finished is kept: run again"
            ) from error

    def _check_not_over(self) -> None:
        if self._over:
            raise KeyboardInterrupt


def _terminate(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()


def _begin(parent: int, threads: int) -> None:
    """Initialise a process."""
    workers.end_with(parent)
    _use_threads(threads)
    log_legibly()


def _with_threads(job: tuple[Callable[[], R], int]) -> R:
    function, threads = job
    _use_threads(threads)
    return function()


def _use_threads(threads: int) -> None:
    """For libraries that are imported from now on."""
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}


def _measured(function: Callable[[], R]) -> tuple[R, int]:
    result = function()
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
