"""Starts a job's workers: in this process when there is one, on Ray Train when there are more.

Workers write checkpoints straight into the job's folder, which every node must reach. When a worker is lost the group
is started again, under a new run name, and continues from the newest committed checkpoint, with fewer workers where the
placement allows it and a node is gone. Ray's own checkpoint reports and restarts are not used: a report may be lost
with the worker, its snapshot of the run may be torn, and a mistake of the user would be tried again. What will not go
away ends the run: the same failure twice without a new checkpoint, hosts that do not reach each other, no room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_prep import private
from data_prep.compute import cluster
from data_prep.errors import UserError
from data_prep.legible import log_legibly, safe_errors
from training.cluster import failures, local_ray, room
from training.cluster.interfaces import CHOSEN_BY_USERS
from training.config import PlacementConfig
from training.job import STACKS, STOP, Job, train
from training.monitor import stopping, watchdog

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

log = logging.getLogger("sesame.training")
T = TypeVar("T")

FORMED = "formed"  # file in the work folder while there is a group of workers; see `training.cluster.group`
# Set before Ray starts anything: no telemetry, failures noticed in a fraction of a second, and the run's priority.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # for room on nodes of which one may be gone; then it looks again
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # added to that of the run; by default 15: any other process goes first
    "TOKENIZERS_PARALLELISM": "false",
}


def run(job: Job, interrupted: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train `job` in this process or on Ray, as its placement says; returns the summary of `training.job.train`.

    If this process is asked to end (`stopping.ask`), `interrupted` is called, training stops at the end of a step with
    a checkpoint, and KeyboardInterrupt is raised. Raises UserError for mistakes in settings or data.
    """
    with stopping.listening(Path(job.work) / STOP, job.placement.watch.stop_seconds, interrupted):
        if needs_ray(job.placement):
            try:
                return _run_on_ray(job)
            except Exception:
                local_ray.keep_logs(Path(job.work) / room.LOGS)
                raise
        from training.distributed import Worker, choose_device

        return train(job, Worker(device=choose_device(job.placement.device)))


def needs_ray(placement: PlacementConfig) -> bool:
    """Whether Ray is needed: a single worker runs in this process unless a cluster is named."""
    return placement.workers > 1 or placement.ray_address is not None


def _num_workers(placement: PlacementConfig) -> int | tuple[int, int]:
    """Workers to start: a number, or the fewest and the most, of which Ray takes as many as fit on its nodes."""
    fewest = placement.min_workers or placement.workers
    return (fewest, placement.workers) if fewest < placement.workers else placement.workers


def ensure_ray(placement: PlacementConfig) -> None:
    """Join the placement's cluster or start one on this machine, once per process."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    if placement.ray_address:
        cluster.join(placement.ray_address)
    else:
        local_ray.start(placement.workers)


def stop_ray() -> None:
    """End the Ray that `ensure_ray` started (or leave the cluster it joined)."""
    local_ray.stop()


def takes_gpus(placement: PlacementConfig) -> bool:
    """Whether workers compute on GPUs of the cluster that was joined."""
    import ray

    return placement.device == "cuda" or (placement.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)


def _run_on_ray(job: Job) -> dict[str, Any]:
    ensure_ray(job.placement)
    from ray.train import TrainingFailedError

    placement, work = job.placement, Path(job.work)
    gpu = takes_gpus(placement)
    needs = room.needs_of(placement, gpu)
    room.check(placement, needs)
    watch = partial(room.watch, placement, needs, work / FORMED)
    before: failures.Attempt | None = None
    for number in range(placement.max_failures + 1):
        watchdog.clear(work / STACKS)
        (work / FORMED).unlink(missing_ok=True)
        trainer = _trainer(job, gpu, needs)
        try:
            return _in_thread(trainer.fit, watch).return_value  # type: ignore[return-value]
        except Exception as error:
            attempt = failures.Attempt(failures.failures_in(error), _newest_step(work))
            if fault := attempt.fault_of_the_user:
                raise fault from None
            if stuck := watchdog.verdict(work / STACKS):
                raise UserError(stuck) from None
            if (work / STOP).exists():  # it was to end anyway
                raise KeyboardInterrupt from None
            if not isinstance(error, TrainingFailedError):
                raise
            if number == placement.max_failures or not _may_pass(attempt, before):
                raise attempt.sentence or error from None
            before = attempt
            log.warning(
                "training workers were lost (%s); going on from the newest checkpoint",
                str(error).strip().splitlines()[-1],
            )
    raise AssertionError("unreachable")


def _may_pass(attempt: failures.Attempt, before: failures.Attempt | None) -> bool:
    """Whether another attempt may fare better than this one, which came after `before`."""
    if attempt.is_unreachable:  # a host that was lost a moment ago, or one that never can be reached
        return _in_thread(room.loses_a_host)
    return not attempt.repeats(before)


def _trainer(job: Job, gpu: bool, needs: dict[str, float]) -> TorchTrainer:
    """One attempt at the job, under a name of its own."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from training.cluster.group import GroupConfig

    work = Path(job.work)
    return TorchTrainer(
        _worker_loop,
        train_loop_config={"job": job.model_dump_json()},
        scaling_config=ScalingConfig(num_workers=_num_workers(job.placement), use_gpu=gpu, resources_per_worker=needs),
        run_config=RunConfig(name=uuid.uuid4().hex[:12], storage_path=str((work / "ray").absolute())),
        torch_config=GroupConfig(
            backend="nccl" if gpu else "gloo",
            shared=cluster.Shared.mark(work),
            formed=work / FORMED,
            given={name: os.environ[name] for name in CHOSEN_BY_USERS if name in os.environ},
            umask=private.umask(),
        ),
    )


def _newest_step(work: Path) -> int:
    """Step of the newest checkpoint; 0 without any."""
    from training.engines import checkpoint

    return max((kept.position.step for kept in checkpoint.committed(work / "checkpoints")), default=0)


def _in_thread(function: Callable[[], T], watch: Callable[[Future[T]], None] | None = None) -> T:
    """`function()`, in a thread of its own. A signal's exception that is raised inside Ray's core is lost there.

    watch: runs next to it with its future, which it may fail; then the function is left to itself.
    """
    future: Future[T] = Future()

    def call() -> None:
        try:
            settle, outcome = future.set_result, function()
        except BaseException as error:
            settle, outcome = future.set_exception, error
        with contextlib.suppress(InvalidStateError):  # the watch was first
            settle(outcome)  # type: ignore[arg-type]

    threading.Thread(target=call, name="ray train", daemon=True).start()
    if watch is not None:
        threading.Thread(target=watch, args=(future,), name="watch the start", daemon=True).start()
    return future.result()


@safe_errors  # Ray writes them to its logs
def _worker_loop(config: dict[str, str]) -> dict[str, Any]:
    import ray.train
    import ray.train.torch

    from training.distributed import Worker

    log_legibly()
    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        local=context.get_local_world_size(),
        device=ray.train.torch.get_device(),
    )
    return train(Job.model_validate_json(config["job"]), worker)
