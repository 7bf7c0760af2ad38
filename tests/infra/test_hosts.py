"""Training on three hosts with networks of their own: what happens to one of them costs time and nothing else.

Every test trains the same tiny job; its losses are compared with those of one process on one machine. Results of the
whole file are in `tests/benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.infra.hosts import Hosts, why_not
from tests.pipeline import tiny
from tests.sockets import Seen, look
from tests.training.cluster.test_elastic_ray import quiet
from tests.training.test_launch import job, losses
from training import launch
from training.job import METRICS, Job

STEPS = 120
REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


class Trained:
    """A job that was trained on hosts."""

    def __init__(self, trained: Job, status: int, output: str, seconds: float) -> None:
        self.status, self.output, self.seconds = status, output, seconds
        self.losses = losses(trained.work) if (Path(trained.work) / METRICS).exists() else {}

    @property
    def summary(self) -> dict[str, Any]:
        assert self.status == 0, self.output
        return _values(self.output)

    @property
    def workers(self) -> int:
        """How many there were at the end."""
        return len(self.summary["bytes_held"])


def _values(output: str) -> dict[str, Any]:
    """The JSON object that a process printed; Ray may have the last word."""
    return json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))


class Trial:
    """The job, its losses on this machine, and a way to train it on hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = quiet(job(folder, steps=STEPS))
        launch.run(self.job)
        self.losses = losses(self.job.work)

    def train(self, hosts: Hosts, name: str, environment: dict[str, str] | None = None, **placement: Any) -> Trained:
        files = {"work": str(self.folder / name), "out": str(self.folder / f"{name}-out")}
        placement = {"ray_address": hosts.ray_address, "checkpoint_every": 5, **placement}
        placed = quiet(Job.model_validate({**self.job.model_dump(), **files}), **placement)
        description = self.folder / f"{name}.json"
        description.write_text(placed.model_dump_json())
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.infra.train", str(description)]
        status, output = hosts.run(command, timeout=540, **dict[str, Any](environment or {}))
        return Trained(placed, status, output, time.monotonic() - began)

    def at_step(self, name: str, step: int, then: Callable[[], None]) -> None:
        """Calls `then` once the job of that name has trained `step` steps."""
        log = self.folder / name / METRICS

        def wait() -> None:
            while not (log.exists() and max(losses(str(log.parent)), default=0) >= step):
                time.sleep(0.02)
            then()

        threading.Thread(target=wait, daemon=True).start()

    def compare(self, trained: Trained, what: str) -> None:
        """Its losses are those of the run on one machine; says what happened."""
        resumed, workers = trained.summary["resumed_from"], trained.workers
        apart = max(abs(trained.losses[step] - self.losses[step]) for step in self.losses)
        print(f"\n| {what} | {workers} | {resumed} | {trained.seconds:.0f} s | {apart:.1e} |")
        assert sorted(trained.losses) == sorted(self.losses) and apart < 1e-4


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts with Ray. Whoever harms one restarts it."""
    with Hosts(tmp_path_factory.mktemp("hosts"), 3) as three:
        three.start_ray()
        yield three


# -- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [2, 3])
def test_three_hosts_train_as_one_does(trial: Trial, hosts: Hosts, zero: int) -> None:
    trained = trial.train(hosts, f"zero-{zero}", workers=3, zero=zero)
    trial.compare(trained, f"ZeRO-{zero}, nothing happens")
    assert trained.workers == 3 and trained.summary["resumed_from"] == 0


def test_hosts_with_addresses_of_version_6(trial: Trial, tmp_path: Path) -> None:
    with Hosts(tmp_path, 2, ipv6=True) as two:
        two.start_ray()
        trained = trial.train(two, "version-6", workers=2, zero=2)
    trial.compare(trained, "ZeRO-2, two hosts with IPv6 alone")
    assert trained.workers == 2 and trained.summary["resumed_from"] == 0


def test_workers_listen_at_the_address_of_their_host(trial: Trial, hosts: Hosts) -> None:
    """Each Ray worker has one port of Ray's own on all interfaces, which wants the token; we add none."""
    seen = {number: Seen(set(), set()) for number in range(3)}

    def note() -> None:
        for number, sockets in seen.items():
            for pid in hosts.pids(number):
                with contextlib.suppress(OSError):  # it has just ended
                    look(pid, sockets)

    trial.at_step("ports", 10, note)
    assert trial.train(hosts, "ports", workers=3, zero=2).workers == 3
    for number, sockets in seen.items():
        ours = [socket for socket in sockets.listening if "RayTrainWorker" in socket.process]
        assert len([socket for socket in ours if socket.address in ("0.0.0.0", "::")]) == 1, ours
        assert {socket.address for socket in ours} <= {"0.0.0.0", "::", hosts.address(number)}, ours


def test_data_are_prepared_on_all_hosts_as_on_one(hosts: Hosts, tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    _texts(tmp_path / "texts")
    prepared = {}
    for name, arguments in {"one": [], "three": [hosts.ray_address]}.items():
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.infra.prepare", str(recipe), *arguments]
        status, output = hosts.run(command, SESAME_HOME=str(tmp_path / name), timeout=540)
        assert status == 0, output
        prepared[name] = _values(output)
        print(f"\n| data preparation, {name} | {prepared[name]['tasks']} | | {time.monotonic() - began:.0f} s | |")
    assert prepared["one"]["digests"] == prepared["three"]["digests"]
    assert set(prepared["three"]["tasks"]) == {hosts.address(number) for number in range(3)}


def _texts(folder: Path) -> None:
    """Twelve files of two megabytes: several units, and enough for data not to be prepared in one process."""
    random = np.random.default_rng(5)
    for number in range(12):
        words = random.choice([*tiny.NOUNS, *tiny.VERBS, *tiny.ENDS], (30_000, 8))
        lines = [" ".join(line) + f" {index}." for index, line in enumerate(words)]
        (folder / f"long-{number:02d}.txt").write_text("\n".join(lines))


# -- what happens to hosts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("harm", ["cut_off", "kill"])
def test_a_host_is_lost(trial: Trial, hosts: Hosts, harm: str, zero: int) -> None:
    name = f"{harm}-{zero}"
    trial.at_step(name, 12, lambda: getattr(hosts, harm)(2))
    try:
        trained = trial.train(hosts, name, workers=3, min_workers=1, zero=zero)
    finally:
        hosts.restart(2)
    trial.compare(trained, f"ZeRO-{zero}, one host is lost at step 12: {harm}")
    assert trained.workers == 2 and trained.summary["resumed_from"] >= 10


def test_a_host_is_slow(trial: Trial, hosts: Hosts) -> None:
    how = hosts.slow(2)
    try:
        trained = trial.train(hosts, "slow", workers=3, zero=2)
    finally:
        hosts.fast(2)
    trial.compare(trained, f"ZeRO-2, one host is slow ({how})")
    assert trained.workers == 3 and trained.summary["resumed_from"] == 0


def test_a_host_joins_before_a_restart(trial: Trial, hosts: Hosts) -> None:
    hosts.kill(2)
    hosts.wait_for_nodes(2)
    hosts.slow(1, "10mbit")  # so that training lasts until the third has joined

    def join_and_lose() -> None:
        hosts.start_node(2)
        hosts.kill(1)

    trial.at_step("joined", 7, join_and_lose)
    try:
        trained = trial.train(hosts, "joined", workers=3, min_workers=2, zero=2)
    finally:
        hosts.restart(1)
    trial.compare(trained, "ZeRO-2, two hosts; a third joins, then the second is killed")
    assert trained.workers == 2 and trained.summary["resumed_from"] >= 5


# -- causes that do not go away ---------------------------------------------------------------------------------------


def test_hosts_that_do_not_reach_each_other_are_named(trial: Trial, hosts: Hosts) -> None:
    hosts.part(1, 2)
    try:
        trained = trial.train(hosts, "apart", workers=3, zero=2)
    finally:
        hosts.reunite(1, 2)
    assert trained.status == 1 and "Traceback" not in trained.output
    assert re.search(rf"host {hosts.address(1)} \S+ cannot reach {hosts.address(2)} ", trained.output)
    print(f"\n| two hosts do not reach each other | – | – | {trained.seconds:.0f} s | ends |")


def test_a_host_without_the_shared_folder_is_named(trial: Trial, hosts: Hosts) -> None:
    hosts.kill(2)
    hosts.start_node(2, hidden=trial.folder)
    try:
        trained = trial.train(hosts, "unshared", workers=3, zero=2)
    finally:
        hosts.restart(2)
    assert trained.status == 1 and "Traceback" not in trained.output
    assert re.search(rf"sesame: host {hosts.address(2)} .* does not see {trial.folder}/unshared", trained.output)
    print(f"\n| a host does not share the home | – | – | {trained.seconds:.0f} s | ends |")


@pytest.mark.parametrize(
    ("interface", "sentence"),
    [("ib7", "GLOO_SOCKET_IFNAME names 'ib7', which is no interface of the host"), ("lan0", "cannot reach 10.77.0.")],
)
def test_an_interface_that_the_user_names_is_used_or_named(
    trial: Trial, hosts: Hosts, interface: str, sentence: str
) -> None:
    """There is no ib7; the network of lan0 reaches nobody."""
    trained = trial.train(hosts, f"by-{interface}", {"GLOO_SOCKET_IFNAME": interface}, workers=3)
    assert trained.status == 1 and "Traceback" not in trained.output and sentence in trained.output
    print(f"\n| GLOO_SOCKET_IFNAME={interface} | – | – | {trained.seconds:.0f} s | ends |")


def test_more_workers_than_fit_are_refused_at_once(trial: Trial, hosts: Hosts) -> None:
    trained = trial.train(hosts, "too-many", workers=4)
    assert trained.status == 1 and "4 workers of 1 CPU each do not fit on the cluster" in trained.output


def test_a_wrong_token_is_named_at_once(trial: Trial, hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("0" * 64)
    trained = trial.train(hosts, "token", {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}, workers=3)
    assert trained.status == 1 and "refuses this process's token" in trained.output
    assert "InvalidAuthToken" in trained.output and "gcs_client" not in trained.output


# -- sesame submit ----------------------------------------------------------------------------------------------------


def test_a_recipe_is_submitted_attached_to_stopped_and_resumed(hosts: Hosts, tmp_path: Path) -> None:
    recipe, home = tiny.recipe(tmp_path, steps=900), tmp_path / "home"
    command = ["sesame", "submit", str(recipe), "--workers=3", f"--home={home}", f"--address={hosts.job_server}"]
    command += ["--set=placement.checkpoint_every=10", "--set=placement.zero=2"]
    hosts.slow(1, "10mbit")  # so that training lasts until the second has come
    (tmp_path / "wrong").write_text("0" * 64)
    status, output = hosts.run(command, 1, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
    assert status == 1 and "refuses this process's token" in output and "Traceback" not in output
    with (tmp_path / "first.log").open("w+") as log, (tmp_path / "second.log").open("w+") as other:
        first = hosts.start(1, command, log)
        try:
            _wait(lambda: _trained(home) >= 12, first, tmp_path / "first.log")
            second = hosts.start(2, command, other)
            _wait(lambda: "attached to tiny-" in (tmp_path / "second.log").read_text(), second, tmp_path / "second.log")
            first.send_signal(signal.SIGINT)
            assert first.wait(180) == 130
            assert second.wait(60) == 1
        finally:
            first.kill()
            hosts.fast(1)
    said = (tmp_path / "first.log").read_text()
    assert re.search(r"sent as tiny-[0-9a-f]{16}-1; ", said) and "stopping tiny-" in said and "interrupted" in said
    assert not any("RayTrainWorker" in name for name in _running(hosts))
    stopped_at = _trained(home)
    assert stopped_at < 900
    status, output = hosts.run(command, 2, timeout=500)
    assert status == 0 and re.search(r"sent as tiny-[0-9a-f]{16}-2; ", output), output
    assert _trained(home) == 900


def _trained(home: Path) -> int:
    """Steps that the run in a home has trained so far."""
    return max((max(losses(str(log.parent)), default=0) for log in home.glob(f"store/**/{METRICS}")), default=0)


def _running(hosts: Hosts) -> list[str]:
    names = []
    for number in range(3):
        for pid in hosts.pids(number):
            with contextlib.suppress(OSError):
                names.append(Path(f"/proc/{pid}/cmdline").read_text())
    return names


def _wait(ready: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    until = time.monotonic() + 400
    while not ready():
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
