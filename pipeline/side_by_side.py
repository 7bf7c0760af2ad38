"""Nodes of a DAG that do not depend on each other, carried out side by side where there is room.

    node with `apart`  ─►  a thread of the flow: store, tracking, progress  ─►  its stage in a process of its own
    other nodes        ─►  the flow's own thread, one by one

Every process has its share of this machine's cores. The memory that it is likely to need counts: the next node begins
where what is free holds it beside the others. On a cluster Ray knows the room, in processors, GPUs and memory.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.compute import cores
from data_prep.compute.apart import Apart
from pipeline.artifact import Artifact
from pipeline.dag import Node
from pipeline.stage import Context, Stage
from pipeline.tracking.tracking import follow
from training import launch
from training.cluster import room
from training.config import PlacementConfig

PROGRESS = "progress.jsonl"  # in the work folder: what a stage elsewhere says
PROCESS = 1 << 30  # bytes: libraries, labelled rows, activations of small batches
COPIES = 6  # of a network: as it was opened, the one that learns, its gradients, Adam's moments, the best so far
Progress = Callable[..., None]


@dataclass
class SideBySide:
    """Where nodes are carried out. most: nodes at once; 1: all of them one by one, in this process.

    threads: of a node; None: its share of the cores. needs: of the cluster that this process has joined, the resources
    that a node takes; None: nodes stay on this machine.
    """

    most: int = 1
    threads: int | None = None
    needs: Mapping[str, float] | None = None
    peak: int = 0
    """Most bytes that a process has had so far."""

    def __post_init__(self) -> None:
        self.apart = Apart(ray=self.needs is not None)

    def is_apart(self, node: Node) -> bool:
        return node.apart and self.most > 1

    def run(
        self,
        node: Node,
        config: dict[str, Any],
        inputs: Mapping[str, Artifact],
        out: Path,
        context: Context,
    ) -> dict[str, Any]:
        """The summary of a node's stage, from a process of its own."""
        threads = self.threads or (max(1, cores.available() // self.most) if self.needs is None else 1)
        placement = {**context.placement, "threads": threads}
        elsewhere = replace(context, placement=placement, progress=Context().progress, files=dict(context.files))
        here = {role: Artifact(of.key, of.path, of.manifest, of.uri) for role, of in inputs.items()}
        request = Request(node.stage, config, here, out, elsewhere)
        needs = {**(self.needs or {}), "memory": float(self.bytes_of(inputs))}
        with _following(context.work / PROGRESS, context.progress):
            summary, peak = self.apart.call(partial(_carried_out, request), node.name, threads, needs, context.work)
        self.peak = max(self.peak, peak)
        return summary

    def bytes_of(self, inputs: Mapping[str, Artifact]) -> int:
        """The memory that a node is likely to need: for the networks that it reads, or as much as another had."""
        files = (file for artifact in inputs.values() for file in artifact.manifest["files"].items())
        weights = sum(entry["size"] for name, entry in files if name.endswith(".safetensors"))
        return max(PROCESS + COPIES * weights, self.peak)


def of_placement(placement: PlacementConfig, most: int) -> SideBySide:
    """Where a placement has nodes carried out: on the hosts of its cluster, which is joined, or on this machine."""
    if most == 1 or placement.ray_address is None:
        return SideBySide(most, placement.threads)
    launch.ensure_ray(placement)
    return SideBySide(most, placement.threads, room.needs_of(placement, launch.takes_gpus(placement)))


@dataclass(frozen=True)
class Request:
    """A stage to be carried out elsewhere, in plain values."""

    stage: Stage
    config: dict[str, Any]
    inputs: dict[str, Artifact]
    out: Path
    context: Context


def _carried_out(request: Request) -> dict[str, Any]:
    """The stage's summary. Called in another process, perhaps a second time where the first was lost."""
    for path in request.out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    log, lock, number = request.context.work / PROGRESS, threading.Lock(), 0

    def progress(message: str, done: float | None = None, warning: str = "") -> None:
        nonlocal number
        with lock, log.open("a") as file:
            number += 1
            file.write(json.dumps({"step": number, "said": [str(message), done, warning]}) + "\n")

    context = replace(request.context, progress=progress)
    return request.stage.run(request.config, request.inputs, request.out, context)


@contextmanager
def _following(log: Path, progress: Progress) -> Iterator[None]:
    """Inside, what is written into a log of progress is passed on."""
    log.unlink(missing_ok=True)
    stop = threading.Event()
    arguments = (log, lambda record: progress(*record["said"]), stop)
    thread = threading.Thread(target=follow, args=arguments, name="follow progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        log.unlink(missing_ok=True)


def carry_out_all(
    nodes: Sequence[Node],
    where: SideBySide,
    carry_out: Callable[[str], object],
    bytes_of: Callable[[Node], int],
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Call `carry_out` with the name of each node, in the order of the DAG as far as there is room for several.

    When a node fails, no other begins, and its exception is raised when those that have begun are over; an interrupt
    ends these. tell: is told of nodes that wait for memory.
    """
    waiting, made = list(nodes), set[str]()
    running: dict[Future[object], Node] = {}
    memory = _Memory(bytes_of, tell, counts=where.needs is None)
    with ThreadPoolExecutor(where.most, thread_name_prefix="node") as pool:
        try:
            while waiting or running:
                ready = [node for node in waiting if made.issuperset(node.inputs.values())]
                if ready and not running and not where.is_apart(ready[0]):
                    waiting.remove(ready[0])
                    carry_out(ready[0].name)
                    made.add(ready[0].name)
                    continue
                for node in filter(where.is_apart, ready):
                    if len(running) < where.most and memory.holds(node, list(running.values())):
                        waiting.remove(node)
                        running[pool.submit(copy_context().run, carry_out, node.name)] = node
                made |= _ended(running)
        except KeyboardInterrupt:
            where.apart.end()
            raise


def _ended(running: dict[Future[object], Node]) -> set[str]:
    """Wait for one of these nodes at least, and remove those that are over; raises what one of them raised."""
    over, _ = wait(running, return_when=FIRST_COMPLETED)
    if any(future.exception() for future in over):
        wait(running)  # what has begun may be worth keeping
    for future in over:
        future.result()
    return {running.pop(future).name for future in over}


class _Memory:
    """The memory that was free when the first of several nodes began, and what they need of it."""

    def __init__(self, bytes_of: Callable[[Node], int], tell: Callable[[str], None], counts: bool) -> None:
        self.bytes_of, self.tell, self.counts = bytes_of, tell, counts
        self.free, self.reported = 0, set[str]()

    def holds(self, node: Node, others: Sequence[Node]) -> bool:
        """Whether a node can begin beside others; without others it always can."""
        if not others or not self.counts:
            self.free = cores.free_memory() if self.counts else 0
            return True
        needed = sum(map(self.bytes_of, [*others, node]))
        if needed > self.free and node.name not in self.reported:
            self.reported.add(node.name)
            beside = " and ".join(other.name for other in others)
            self.tell(
                f"{node.name} waits for memory: beside {beside} it would take {needed / 1e9:.1f} GB, and "
                f"{self.free / 1e9:.1f} GB are free"
            )
        return needed <= self.free
