"""Workers that never fit are refused at once, and a group that does not start in time ends with the reason."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import ray

from data_prep.errors import UserError
from training.cluster import room
from training.config import PlacementConfig


def node(address: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": address, "NodeManagerAddress": address, "Alive": alive, "Resources": resources}


HOSTS = [
    node("10.0.0.1", CPU=0),
    node("10.0.0.2", CPU=3),
    node("10.0.0.3", CPU=1, GPU=2),
    node("10.0.0.4", False, CPU=9),
]


@pytest.mark.parametrize(
    ("needs", "fit"),
    [({"CPU": 1}, 4), ({"CPU": 2}, 1), ({"GPU": 1}, 2), ({"CPU": 1, "GPU": 1}, 1), ({"CPU": 1, "disk": 1}, 0)],
)
def test_a_worker_fits_on_one_host_that_is_alive(needs: dict[str, float], fit: int) -> None:
    assert room.workers_that_fit(HOSTS, needs) == fit


@pytest.mark.parametrize(
    ("placement", "gpu", "needs"),
    [
        ({}, False, {"CPU": 1}),
        ({}, True, {"GPU": 1}),
        ({"resources_per_worker": {"CPU": 4}}, False, {"CPU": 4}),
        ({"resources_per_worker": {"CPU": 4}}, True, {"GPU": 1, "CPU": 4}),
        ({"resources_per_worker": {"GPU": 2}}, True, {"GPU": 2}),
    ],
)
def test_needs_of_a_worker(placement: dict[str, Any], gpu: bool, needs: dict[str, float]) -> None:
    assert room.needs_of(PlacementConfig.model_validate(placement), gpu) == needs


def test_a_shortage_names_what_is_asked_for_and_what_is_there() -> None:
    placement = PlacementConfig(workers=6, ray_address="10.0.0.1:6379")
    assert room.shortage(HOSTS, {"CPU": 1}, placement) == (
        "placement.workers: 6 workers of 1 CPU each do not fit on the cluster at 10.0.0.1:6379, which has room for 4 "
        "(10.0.0.1: 0 CPU, 10.0.0.2: 3 CPU, 10.0.0.3: 1 CPU); ask for fewer, or add hosts."
    )
    assert room.shortage(HOSTS, {"CPU": 1}, placement.model_copy(update={"min_workers": 4})) is None
    fewest = room.shortage(HOSTS, {"GPU": 1}, PlacementConfig(workers=6, min_workers=3))
    assert fewest and fewest.startswith("placement.min_workers: 3 workers of 1 GPU each do not fit on this machine")
    assert "no host is alive" in str(room.shortage([], {"CPU": 1}, placement))


def test_workers_that_never_fit_are_refused_unless_the_cluster_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.state import state

    monkeypatch.setattr(ray, "nodes", lambda: HOSTS)
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: None)
    with pytest.raises(UserError, match=r"(?<![\d.,])5 workers of 1 CPU each do not fit"):
        room.check(PlacementConfig(workers=5), {"CPU": 1})
    room.check(PlacementConfig(workers=4), {"CPU": 1})
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: {"CPU": 100})
    room.check(PlacementConfig(workers=5), {"CPU": 1})


@pytest.mark.parametrize(
    ("for_room", "free", "workers", "why"),
    [
        (
            0.02,
            {"CPU": 0},
            4,
            r"not start in 0\.05 s \(placement\.watch\.stuck_seconds\): 0 CPU is free on the cluster",
        ),
        (
            0.02,
            {"CPU": 4},
            4,
            r"not start in 0\.05 s \(placement\.watch\.stuck_seconds\); Ray's logs are in .*/ray-logs\.",
        ),
        (0.1, {"CPU": 4}, 4, r"not start in 0\.1 s \(placement\.watch\.start_seconds\); Ray's"),
        (
            0.02,
            {"CPU": 4},
            5,
            r"5 workers of 1 CPU each do not fit .*\(waited 0\.02 s, placement\.watch\.start_seconds\)",
        ),
    ],
)
def test_a_group_that_does_not_start_ends_with_the_reason(
    for_room: float, free: dict[str, float], workers: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: HOSTS)
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    limits = {"start_seconds": for_room, "stuck_seconds": 0.05}
    future: Future[None] = Future()
    placement = PlacementConfig.model_validate({"workers": workers, "watch": limits})
    room.watch(placement, {"CPU": 1}, tmp_path / "formed", future)
    with pytest.raises(UserError, match=why):
        future.result()


def test_a_cluster_that_gets_its_hosts_back_in_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    looks = iter([HOSTS[:1]] * 5 + [HOSTS] * 5 + [HOSTS[:1]] * 5)
    future: Future[str] = Future()

    def nodes() -> list[dict[str, Any]]:
        here = next(looks, None)
        if here is None:
            future.set_result("trained")
        return here or HOSTS

    monkeypatch.setattr(ray, "nodes", nodes)
    limits = {"start_seconds": 0.5, "stuck_seconds": 600}
    placement = PlacementConfig.model_validate({"workers": 4, "watch": limits})
    room.watch(placement, {"CPU": 1}, tmp_path / "formed", future)
    assert future.result() == "trained"


@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_a_group_that_has_started_or_may_wait_is_left_alone(
    limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    formed = tmp_path / "formed"
    if limit:
        formed.touch()
    future: Future[str] = Future()
    threading.Timer(0.3, future.set_result, ["trained"]).start()
    limits = {"start_seconds": limit, "stuck_seconds": limit}
    room.watch(PlacementConfig.model_validate({"watch": limits}), {"CPU": 1}, formed, future)
    assert future.result() == "trained"


def test_the_loss_of_a_host_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    looks = iter([HOSTS, HOSTS, HOSTS[:1]])
    monkeypatch.setattr(ray, "nodes", lambda: next(looks))
    assert room.loses_a_host()
    monkeypatch.setattr(ray, "nodes", lambda: HOSTS)
    assert not room.loses_a_host(seconds=0.05)
