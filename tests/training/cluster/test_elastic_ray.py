"""A cluster loses a node, or Ray its notes of a run: training goes on as if nothing had happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_launch import _kill_a_worker, job, losses
from training import launch
from training.cluster import local_ray
from training.job import METRICS, Job

STEPS = 120


def quiet(noisy: Job, **placement: Any) -> Job:
    """The job without dropout, placed elsewhere."""
    noisy.network.config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return Job.model_validate({**noisy.model_dump(), "placement": {**noisy.placement.model_dump(), **placement}})


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each on this machine."""
    for name, value in {**launch.RAY_ENVIRONMENT, "RAY_AUTH_MODE": "token"}.items():
        monkeypatch.setenv(name, value)
    token = tmp_path / "token"
    token.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    local_ray.read_token_again()
    from ray.cluster_utils import Cluster

    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield ray_cluster
    finally:
        launch.stop_ray()
        ray_cluster.shutdown()
        monkeypatch.undo()
        local_ray.read_token_again()


@pytest.mark.slow
def test_a_lost_node_costs_its_workers_and_nothing_else(tmp_path: Path, cluster: Any) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    uninterrupted = quiet(job(tmp_path, steps=STEPS))
    launch.run(uninterrupted)
    struck = quiet(
        Job.model_validate({**uninterrupted.model_dump(), "work": str(tmp_path / "struck")}),
        workers=2, min_workers=1, zero=2, checkpoint_every=5, ray_address=cluster.address,
    )  # fmt: skip
    lost = threading.Event()

    def lose() -> None:
        while not lost.is_set():
            time.sleep(0.02)
            if (Path(struck.work) / METRICS).exists() and max(losses(struck.work), default=0) >= 12:
                cluster.remove_node(second, allow_graceful=False)
                lost.set()

    threading.Thread(target=lose, daemon=True).start()
    summary = launch.run(struck)
    assert lost.is_set()
    assert 10 <= summary["resumed_from"] < STEPS
    assert len(summary["bytes_held"]) == 1  # of the workers at the end
    assert losses(struck.work) == pytest.approx(losses(uninterrupted.work), abs=1e-4)


@pytest.mark.slow
def test_what_ray_noted_of_a_run_may_be_torn(tmp_path: Path) -> None:
    """Ray writes its snapshot of a run in place, and a run that finds its own cut short does not start.

    Ours reports nothing to Ray, so there is none; and one that is there belongs to a name that is never used again.
    """
    uninterrupted = quiet(job(tmp_path, steps=60))
    launch.run(uninterrupted)
    struck = quiet(
        Job.model_validate({**uninterrupted.model_dump(), "work": str(tmp_path / "struck")}),
        workers=2, checkpoint_every=5, max_failures=0,
    )  # fmt: skip
    killed = threading.Event()
    threading.Thread(target=_kill_a_worker, args=(Path(struck.work), 12, killed), daemon=True).start()
    try:
        with pytest.raises(Exception, match="worker"):
            launch.run(struck)
        assert killed.is_set()
        named = [path for path in (Path(struck.work) / "ray").iterdir() if path.is_dir()]
        assert len(named) == 1
        for path in [*named[0].rglob("*"), named[0] / "checkpoint_manager_snapshot.json"]:
            if not path.is_dir():
                path.write_text('{"checkpoint_results": [{"checkpoint_dir_na')
        summary = launch.run(struck)
    finally:
        launch.stop_ray()
    assert summary["resumed_from"] >= 5
    assert losses(struck.work) == pytest.approx(losses(uninterrupted.work), abs=1e-4)
