"""Room for a group of workers on a cluster: whether there is any, and the sentence for a group that does not start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from training.config import PlacementConfig

LOOK_SECONDS = 0.5
LOGS = "ray-logs"  # folder in the work folder for the logs of a private Ray, kept for runs that failed
LOSS_SECONDS = 75.0  # in which Ray gives up a host that does not answer


def needs_of(placement: PlacementConfig, gpu: bool) -> dict[str, float]:
    """Ray resources of one worker."""
    default = {"GPU": 1.0} if gpu else {"CPU": 1.0}
    return {**(default if gpu or not placement.resources_per_worker else {}), **placement.resources_per_worker}


def workers_that_fit(nodes: Sequence[Mapping[str, Any]], needs: Mapping[str, float]) -> float:
    """How many workers the hosts that are alive could hold if nothing else ran there. nodes: those of `ray.nodes`."""
    return sum(
        min(
            (node["Resources"].get(name, 0.0) // amount for name, amount in needs.items() if amount),
            default=float("inf"),
        )
        for node in nodes
        if node["Alive"]
    )


def shortage(nodes: Sequence[Mapping[str, Any]], needs: Mapping[str, float], placement: PlacementConfig) -> str | None:
    """The sentence for workers that do not fit even on an idle cluster; None if they do."""
    fewest = placement.min_workers or placement.workers
    room = workers_that_fit(nodes, needs)
    if room >= fewest:
        return None
    hosts = ", ".join(
        f"{node['NodeManagerAddress']}: {_amounts({name: node['Resources'].get(name, 0) for name in needs})}"
        for node in nodes
        if node["Alive"]
    )
    where = f"the cluster at {placement.ray_address}" if placement.ray_address else "this machine"
    setting = "min_workers" if placement.min_workers else "workers"
    return (
        f"placement.{setting}: {fewest} workers of {_amounts(needs)} each do not fit on {where}, which has room for "
        f"{room:.0f} ({hosts or 'no host is alive'}); ask for fewer, or add hosts."
    )


def check(placement: PlacementConfig, needs: Mapping[str, float]) -> None:
    """Raises UserError where workers can never fit. A cluster that adds hosts by itself is given time to do so."""
    import ray
    from ray._private.state import state

    if not state.get_max_resources_from_cluster_config() and (sentence := shortage(ray.nodes(), needs, placement)):
        raise UserError(sentence)


def watch(placement: PlacementConfig, needs: Mapping[str, float], formed: Path, future: Future[Any]) -> None:
    """Wait for `future`, and fail it with a sentence where no group of workers starts. `formed`: exists while one does.

    Room may be missing for `watch.start_seconds`. Where there is room, starting may take `watch.stuck_seconds`.
    """
    import ray

    grouped = roomy = time.monotonic()
    for_room, for_start = placement.watch.start_seconds, placement.watch.stuck_seconds
    limit, setting = max((for_start, "stuck_seconds"), (for_room, "start_seconds"))
    while not wait([future], LOOK_SECONDS).done:  # Ray may be gone as soon as it is
        now = time.monotonic()
        if formed.exists():
            grouped = roomy = now
            continue
        missing = shortage(ray.nodes(), needs, placement)
        if missing is None:
            roomy = now
        elif for_room and now - roomy > for_room:
            _fail(future, f"{missing[:-1]} (waited {for_room:g} s, placement.watch.start_seconds).")
        if for_start and now - grouped > limit:
            here = f"Ray's logs are in {formed.parent / LOGS}"
            logs = "Ray's log of each host says more" if placement.ray_address else here
            waited = f"the training workers did not start in {limit:g} s (placement.watch.{setting})"
            _fail(future, f"{waited}{_free(needs)}; {logs}.")


def _fail(future: Future[Any], sentence: str) -> None:
    with contextlib.suppress(InvalidStateError):  # it ended meanwhile
        future.set_exception(UserError(sentence))


def _free(needs: Mapping[str, float]) -> str:
    """What is free of a cluster that could hold the group, where that is too little for it; else nothing."""
    import ray

    free = ray.available_resources()
    if all(free.get(name, 0) >= amount for name, amount in needs.items()):
        return ""
    have = _amounts({name: free.get(name, 0) for name in needs})
    return f": {have} is free on the cluster, others may use the rest"


def loses_a_host(seconds: float = LOSS_SECONDS) -> bool:
    """Wait until Ray gives a host up; False if it gave up none."""
    import ray

    def alive() -> set[str]:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    before, until = alive(), time.monotonic() + seconds
    while time.monotonic() < until:
        if before - alive():
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _amounts(resources: Mapping[str, float]) -> str:
    """1 CPU, 2 GPU"""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
