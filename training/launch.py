"""Starts a job's workers: in this process when there is one, on Ray Train when there are more.

Workers write checkpoints straight into the job's folder, which every node must reach. When a worker is lost the group
is started again, under a new run name, and goes on from the newest committed checkpoint, with fewer workers where the
placement allows it and a node is gone. Ray's own checkpoint reports and restarts are not used: a report may be lost
with the worker, its snapshot of the run may be torn, and a mistake of the user would be tried again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from data_prep.errors import UserError, refusal_of_the_disk
from training.config import PlacementConfig
from training.job import STACKS, STOP, Job, train
from training.monitor import stopping, watchdog

log = logging.getLogger("sesame.training")
T = TypeVar("T")

# Set before Ray starts anything: no telemetry, and failures noticed in a fraction of a second.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # for room on nodes of which one may be gone; then it looks again
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def run(job: Job, interrupted: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train `job` in this process or on Ray, as its placement says; returns the summary of `training.job.train`.

    If this process is asked to end (`stopping.ask`), `interrupted` is called, training stops at the end of a step with
    a checkpoint, and KeyboardInterrupt is raised. Raises UserError for mistakes in settings or data.
    """
    with stopping.listening(Path(job.work) / STOP, job.placement.watch.stop_seconds, interrupted):
        if needs_ray(job.placement):
            return _run_on_ray(job)
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
    terminated = signal.getsignal(signal.SIGTERM)
    # It would report that tokens are in use, which is intended.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    try:
        if placement.ray_address:
            _check_answers(placement.ray_address)
            ray.init(address=placement.ray_address, log_to_driver=False)
        else:
            cores = os.cpu_count() or 1
            ray.init(
                address="local",
                num_cpus=max(cores, placement.workers),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except OSError as error:
        if placement.ray_address is None:
            raise UserError(_why_not_here(error)) from error
        raise UserError(
            f"placement.ray_address: no Ray cluster answers at {placement.ray_address!r}; "
            "start one or set it to null to use this machine."
        ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler aborts the process three seconds after the signal, whatever it is writing by then.
        signal.signal(signal.SIGTERM, terminated)


def _why_not_here(error: OSError) -> str:
    """The sentence for a Ray that does not start on this machine."""
    advice = "set placement.workers to 1 to train without it"
    if "AF_UNIX" in str(error):
        advice = "its folder of temporary files has too long a name: set RAY_TMPDIR to a shorter one, such as /tmp"
    elif isinstance(error, PermissionError):
        advice = "set HOME and RAY_TMPDIR to folders that this user may write to"
    return f"Ray does not start on this machine ({error}); {advice}."


def _check_answers(address: str) -> None:
    """ConnectionError at once for an address where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def stop_ray() -> None:
    """End the Ray that `ensure_ray` started (or leave the cluster it joined)."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def _run_on_ray(job: Job) -> dict[str, Any]:
    ensure_ray(job.placement)
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = job.placement.device == "cuda" or (
        job.placement.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    for attempt in range(job.placement.max_failures + 1):
        watchdog.clear(Path(job.work) / STACKS)
        trainer = TorchTrainer(
            _worker_loop,
            train_loop_config={"job": job.model_dump_json()},
            scaling_config=ray.train.ScalingConfig(
                num_workers=_num_workers(job.placement),
                use_gpu=gpu,
                resources_per_worker=job.placement.resources_per_worker or None,
            ),
            run_config=ray.train.RunConfig(
                name=uuid.uuid4().hex[:12],
                storage_path=str((Path(job.work) / "ray").absolute()),
            ),
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        )
        try:
            return _in_thread(trainer.fit).return_value  # type: ignore[return-value]
        except ray.train.TrainingFailedError as error:
            for failure in worker_failures(error):
                if isinstance(failure, UserError) or refusal_of_the_disk(failure):
                    raise failure from None
            if stuck := watchdog.verdict(Path(job.work) / STACKS):
                raise UserError(stuck) from None
            if (Path(job.work) / STOP).exists():  # it was to end anyway
                raise KeyboardInterrupt from None
            if attempt == job.placement.max_failures:
                raise
            log.warning(
                "training workers were lost (%s); going on from the newest checkpoint",
                str(error).strip().splitlines()[-1],
            )
    raise AssertionError("unreachable")


def _in_thread(function: Callable[[], T]) -> T:
    """`function()`, in a thread of its own. A signal's exception that is raised inside Ray's core is lost there."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="ray train", daemon=True).start()
    return future.result()


def worker_failures(error: BaseException) -> list[BaseException]:
    """The workers' own exceptions inside what Ray raises, unwrapped, lowest rank first."""
    failures = getattr(error, "worker_failures", None) or {}
    return [getattr(failures[rank], "cause", None) or failures[rank] for rank in sorted(failures)]


def _worker_loop(config: dict[str, str]) -> dict[str, Any]:
    import ray.train
    import ray.train.torch

    from training.distributed import Worker

    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        local=context.get_local_world_size(),
        device=ray.train.torch.get_device(),
    )
    return train(Job.model_validate_json(config["job"]), worker)
