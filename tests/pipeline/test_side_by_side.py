"""Nodes that need not wait for each other overlap in time, where the placement and the memory allow it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from data_prep.compute.apart import Apart
from data_prep.errors import UserError
from pipeline import side_by_side
from pipeline.artifact import Artifact
from pipeline.dag import Node
from pipeline.side_by_side import COPIES, PROCESS, SideBySide, carry_out_all
from pipeline.stage import Context, Stage
from pipeline.store.store import Store
from training import launch
from training.config import PlacementConfig

SECONDS = 60.0  # that one waits for the other at most


def meet(config: dict[str, Any], inputs: Any, out: Path, context: Context) -> dict[str, Any]:
    """A stage that ends once all of a group have begun."""
    folder = Path(config["folder"])
    (folder / config["name"]).touch()
    context.progress(f"{config['name']} has begun", 0.5, warning="odd")
    until = time.monotonic() + SECONDS
    while len(list(folder.iterdir())) < config["group"]:
        if time.monotonic() > until:
            raise RuntimeError("nobody came")
        time.sleep(0.02)
    (out / "file").write_text("x")
    threads = context.placement["threads"]
    return {"pid": os.getpid(), "threads": threads, "omp": os.environ.get("OMP_NUM_THREADS")}


def fail(config: dict[str, Any], inputs: Any, out: Path, context: Context) -> dict[str, Any]:
    raise UserError("the labels are missing; name a file.")


def wait_for_ever(config: dict[str, Any], inputs: Any, out: Path, context: Context) -> dict[str, Any]:
    Path(config["folder"], "begun").touch()
    time.sleep(SECONDS)
    return {}


def node(name: str, run: Any = meet, *after: str, apart: bool = True, **config: Any) -> Node:
    return Node(name, Stage("meeting", 1, run), {"name": name, **config}, {role: role for role in after}, apart=apart)


def carried_out(nodes: list[Node], where: SideBySide, store: Store, said: list[Any] | None = None) -> dict[str, Any]:
    """Artifacts by name."""
    made: dict[str, Artifact] = {}

    def carry_out(name: str) -> None:
        node = next(node for node in nodes if node.name == name)

        def run(config: Any, inputs: Any, out: Path, context: Context) -> dict[str, Any]:
            return (where.run if where.is_apart(node) else lambda node, *a: node.stage.run(*a))(
                node, config, inputs, out, context
            )

        context = Context(placement={"threads": 3}, progress=lambda *a, **b: None if said is None else said.append(a))
        inputs = {role: made[of] for role, of in node.inputs.items()}
        made[name], _ = store.produce(Stage("meeting", 1, run), node.config, inputs, context)

    carry_out_all(nodes, where, carry_out, lambda node: 1)
    return made


def test_two_jobs_overlap_in_processes_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "met"
    folder.mkdir()
    both = [node(name, folder=str(folder), group=2) for name in ("first", "second")]
    said: list[Any] = []
    made = carried_out(both, SideBySide(most=2, threads=1), Store(tmp_path / "store"), said)
    pids = {artifact.summary["pid"] for artifact in made.values()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert [artifact.summary[name] for artifact in made.values() for name in ("threads", "omp")] == [1, "1"] * 2
    assert {("first has begun", 0.5, "odd"), ("second has begun", 0.5, "odd")} <= {tuple(line) for line in said}
    assert all((artifact.path / "file").read_text() == "x" for artifact in made.values())


def test_one_at_a_time_stays_here(tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    alone = [node(name, folder=str(tmp_path / "met"), group=1) for name in ("first", "second")]
    made = carried_out(alone, SideBySide(), Store(tmp_path / "store"))
    assert {artifact.summary["pid"] for artifact in made.values()} == {os.getpid()}


def test_a_job_that_fails_begins_no_other_and_what_has_begun_is_kept(tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    store = Store(tmp_path / "store")
    nodes = [node("bad", fail), node("good", folder=str(tmp_path / "met"), group=1), node("later", meet, "bad", "good")]
    with pytest.raises(UserError, match="the labels are missing; name a file"):
        carried_out(nodes, SideBySide(most=2), store)
    assert [artifact.config["name"] for artifact in store.list()] == ["good"]


def test_an_interrupt_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, looked = SideBySide(most=2), side_by_side.wait

    def interrupted(futures: Any, **options: Any) -> Any:
        until = time.monotonic() + SECONDS
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "wait", interrupted)
    began = time.monotonic()
    nodes = [node("endless", wait_for_ever, folder=str(tmp_path)), node("other", wait_for_ever, folder=str(tmp_path))]
    with pytest.raises(KeyboardInterrupt):
        carried_out(nodes, where, Store(tmp_path / "store"))
    assert time.monotonic() - began < SECONDS and looked is not side_by_side.wait
    assert not Store(tmp_path / "store").list()


def leave() -> None:
    os._exit(9)


def test_a_process_that_others_end_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"glue-rte: its process was ended from outside .* lower placement\.jobs"):
        Apart().call(leave, "glue-rte", 1)


@pytest.mark.parametrize(("free", "at_once"), [(10, 3), (7, 2), (1, 1)])
def test_memory_counts(free: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three nodes of 3 bytes each: as many at once as fit; one always begins."""
    monkeypatch.setattr(side_by_side.cores, "free_memory", lambda: free)
    now, most, lock, told = [0], [0], threading.Lock(), list[str]()

    def carry_out(name: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.2)
        with lock:
            now[0] -= 1

    carry_out_all([node(name) for name in "abc"], SideBySide(most=3), carry_out, lambda node: 3, told.append)
    assert most[0] == at_once
    assert bool(told) == (at_once < 3) and all("waits for memory" in text for text in told)


def test_networks_that_are_read_count_and_what_another_took() -> None:
    manifest: Any = {"files": {"model/model.safetensors": {"size": 100}, "model/config.json": {"size": 7}}}
    inputs = {"pretrained": Artifact("k", Path(), manifest)}
    where = SideBySide(most=2)
    assert where.bytes_of(inputs) == PROCESS + COPIES * 100
    where.peak = 5 * PROCESS
    assert where.bytes_of(inputs) == 5 * PROCESS


@pytest.mark.slow  # Ray takes seconds to start
def test_two_jobs_overlap_as_tasks_of_a_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "met"
    folder.mkdir()
    both = [node(name, folder=str(folder), group=2) for name in ("first", "second")]
    store, said = Store(tmp_path / "store"), list[Any]()
    launch.ensure_ray(PlacementConfig(workers=2))
    try:
        made = carried_out(both, SideBySide(most=2, needs={"CPU": 1.0}), store, said)
        with pytest.raises(UserError, match="the labels are missing; name a file"):
            carried_out([node("bad", fail), node("worse", fail)], SideBySide(most=2, needs={"CPU": 1.0}), store)
    finally:
        launch.stop_ray()
    pids = {artifact.summary["pid"] for artifact in made.values()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert {artifact.summary["omp"] for artifact in made.values()} == {"1"}
    assert {("first has begun", 0.5, "odd"), ("second has begun", 0.5, "odd")} <= {tuple(line) for line in said}
