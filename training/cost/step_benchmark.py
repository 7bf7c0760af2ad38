"""Some steps of training on made-up rows, timed: `python -m training.cost.step_benchmark RANK FOLDER SETTINGS …`.

    settings ─► one process per worker ─► the training loop as it is ─► seconds of a step, bytes at the peak

What `sesame plan` calibrates by, on a network of one and of three layers, and what it is compared with, on all of them.
Networks without layers of one kind are small: their steps are timed whole.
"""

from __future__ import annotations

import importlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from data_prep.corruptions import CorruptionConfig, config_union
from data_prep.corruptions.warp import AugmentConfig
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.legible import safe
from data_prep.settings import Settings
from data_prep.shards.rows import Specials
from training.config import NetworkConfig, ObjectiveConfig, Optimizer, OrderConfig, PlacementConfig, TrainConfig

if TYPE_CHECKING:
    AnyCorruption = CorruptionConfig

    from training.data import Stream
    from training.objective import Objective
else:
    AnyCorruption = config_union()

MOST_ROWS = 4096  # to read from: of more, reading one is no dearer
SHARD_VALUES = 1 << 22  # at most, of the shards that rows are read from
WINDOWS = 4  # of the timed steps, of which the fastest counts
REFUSED = 3  # exit status where what is wrong is the user's, and said in a sentence
WARM_UP = 2  # steps that are not counted: allocation, choice of kernels


class PlainFacts(Settings):
    """`DataFacts` as plain values, without folders."""

    kind: str
    """Kind of data."""
    columns: list[str] = Field(default_factory=list)
    """Names of the columns of a row."""
    shape: list[int] = Field(default_factory=list)
    """Shape of an example, or of one item of a sequence; see `DataFacts`."""
    length: int | None = None
    """Maximum number of items of a sequence."""
    rate: float | None = None
    """Items per second."""
    classes: list[str] = Field(default_factory=list)
    """Names of the labels."""
    vocabulary: int | None = None
    """Number of token ids; null: the data is not text."""
    special: list[int] = Field(default_factory=list)
    """Ids of all special tokens, in ascending order."""
    sentinels: list[int] = Field(default_factory=list)
    """Ids of the sentinels, in the order of their use."""
    roles: dict[str, int] = Field(default_factory=dict)
    """Id of each special token, by role."""

    @classmethod
    def of(cls, data: DataFacts) -> PlainFacts:
        tokens = data.specials
        return cls(
            kind=data.kind,
            columns=list(data.columns),
            shape=list(data.shape),
            length=data.length,
            rate=data.rate,
            classes=list(data.classes),
            vocabulary=tokens.vocabulary if tokens else None,
            special=sorted(tokens.all) if tokens else [],
            sentinels=list(tokens.sentinels) if tokens else [],
            roles=dict(tokens.roles) if tokens else {},
        )

    def data(self) -> DataFacts:
        tokens = None
        if self.vocabulary is not None:
            roles: dict[str, Any] = dict(self.roles)
            tokens = Specials(self.vocabulary, self.special, self.sentinels, **roles)
        return DataFacts(
            kind=self.kind,
            columns=tuple(self.columns),
            shape=tuple(self.shape),
            length=self.length,
            rate=self.rate,
            classes=tuple(self.classes),
            specials=tokens,
        )

    @property
    def row_values(self) -> int:
        """Numbers that the input of a row has at most."""
        return max(1, math.prod(self.shape) * (self.length or 1))


class StepBenchmark(Settings):
    """Which steps to time: a recipe's, on rows of its objective's `example`."""

    objective: ObjectiveConfig
    """The loss."""
    network: NetworkConfig
    """The network; to the objective, its network `model`."""
    networks: dict[str, NetworkConfig] = Field(default_factory=dict)
    """The objective's other networks, by name."""
    facts: PlainFacts
    """Facts about the data, by which rows are made up."""
    corruption: AnyCorruption
    """How rows are corrupted."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    """How images are changed before they are corrupted."""
    order: OrderConfig = Field(default_factory=OrderConfig)
    """How the order of rows is shuffled."""
    optimizer: Optimizer = "adamw"
    """The optimizer."""
    weight_decay: float = 0.01
    """Decoupled weight decay; of sparse gradients, 0."""
    log_every: int = 10
    """Steps from one logged record to the next."""
    rows: int = MOST_ROWS
    """Number of different rows to read; at most `MOST_ROWS` are made up."""
    batch: int
    """Rows per step, over all workers."""
    steps: int
    """Steps to run."""
    precision: str
    """fp32 or bf16; auto chooses by the hardware."""
    placement: PlacementConfig
    """Where and how fast the steps run."""

    def build(self, folder: Path) -> tuple[Objective, Stream, TrainConfig]:
        """What a worker trains, on which rows: from shards in `folder`, for reading is much of short steps."""
        from data_prep.shards.reader import Shards
        from data_prep.shards.writer import ShardWriter
        from training.cost.counted import example
        from training.data import Corpus, Stream
        from training.job import augmented, corruption_on_load
        from training.objectives import build

        data = self.facts.data()
        objective = build(self.objective, {"model": self.network, **self.networks}, data, "cpu")
        count = max(1, min(self.rows, MOST_ROWS, SHARD_VALUES // self.facts.row_values))
        rows = example(objective, count, data.specials, self.corruption, at="shards")
        writer = ShardWriter(Path(tempfile.mkdtemp(dir=folder)), count)
        writer.write(rows)
        writer.close()
        changed = augmented(self.augment, corruption_on_load(self.corruption, data.specials))
        stream = Stream([Corpus("example", Shards(writer.folder))], 0, self.order, changed)
        train = TrainConfig(
            steps=self.steps,
            global_batch=self.batch,
            precision=self.precision,  # type: ignore[arg-type]
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            log_every=self.log_every,
        )
        return objective, stream, train


class StepMeasurement(Settings):
    """The result of a benchmark: the largest of each number over the workers."""

    step_seconds: float
    """Median time of a step, in seconds, where other work disturbed it least; see `undisturbed`."""
    mean_seconds: float = 0.0
    """Mean time of a step there, including what happens between steps, in seconds."""
    update_seconds: float
    """Median time there of the update in a step, in seconds: sums over workers, clipping and the optimizer."""
    process_bytes: int = 0
    """Anonymous resident memory with networks built, without their weights, in bytes."""
    peak_bytes: int
    """Its peak, in bytes; 0 if the system does not report it."""
    growth_bytes: int = 0
    """By how much more it will grow, whatever the rows; see `_to_come`."""


def measure(*benchmarks: StepBenchmark) -> list[StepMeasurement]:
    """Run benchmarks of one number of workers, one after another, in processes of their own.

    They inherit this one's priority. Raises UserError with what one of them refuses, or the last line of its errors.
    """
    settings = [benchmark.model_dump_json() for benchmark in benchmarks]
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "training.cost.step_benchmark", str(rank), folder, *settings],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(benchmarks[0].placement.workers)
        ]
        try:
            outputs = [worker.communicate() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        for worker, (_, errors) in zip(workers, outputs, strict=True):
            if worker.returncode:
                last_line = (errors.strip().splitlines() or [f"exit status {worker.returncode}"])[-1]
                raise UserError(
                    last_line if worker.returncode == REFUSED else f"a timed step of this training failed: {last_line}"
                )
    by_worker = [
        [StepMeasurement.model_validate_json(line) for line in output.splitlines()[-len(benchmarks) :]]
        for output, _ in outputs
    ]
    return [_most(workers) for workers in zip(*by_worker, strict=True)]


def _most(by_worker: tuple[StepMeasurement, ...]) -> StepMeasurement:
    names = StepMeasurement.model_fields
    return StepMeasurement.model_validate({name: max(getattr(worker, name) for worker in by_worker) for name in names})


def anonymous_bytes() -> int:
    """Anonymous memory of this process that is resident; mapped files do not count. 0 if not known."""
    return _values(_account("status")).get("RssAnon", 0)


def peak_bytes() -> int:
    """Most anonymous memory that this process has had resident; mapped files do not count. 0 if not known."""
    sizes = _values(_account("status"))
    return sizes["VmHWM"] - sizes["RssFile"] - sizes["RssShmem"] if sizes else 0


def _to_come(warm: int) -> int:
    """Bytes of malloc's heap that will be resident after more steps. warm: the peak after the warm-up.

    Blocks of many sizes move through the heap's gaps, and fewer and fewer pages are touched for the first time: in
    the next hundred steps about as many as in the first ten, but no more than the heap has.
    """
    return min(peak_bytes() - warm, sum(size - resident for size, resident in _heap()))


def _heap() -> list[tuple[int, int]]:
    """Bytes of each mapping of malloc's heap, in address space and resident."""
    heap: list[tuple[int, int]] = []
    for mapping in _account("smaps").split("VmFlags"):
        if "[heap]" in mapping:
            values = _values(mapping)
            heap.append((values["Size"], values["Rss"]))
    return heap


def _account(file: str) -> str:
    """Linux's account of this process; empty elsewhere."""
    path = Path("/proc/self") / file
    return path.read_text() if path.exists() else ""


def _values(account: str) -> dict[str, int]:
    """Bytes by name."""
    parts = [line.partition(":") for line in account.splitlines() if line.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, _, value in parts}


def run(benchmark: StepBenchmark, rank: int, folder: Path) -> StepMeasurement:
    """This worker's part of a benchmark."""
    import torch.distributed as dist

    from training.distributed import Worker, set_up_cpu
    from training.loop import Training

    world = benchmark.placement.workers
    set_up_cpu(benchmark.placement.threads, world)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    objective, stream, config = benchmark.build(folder)
    if benchmark.placement.zero is not None:
        importlib.import_module("deepspeed")  # its libraries are of the process
    parameters = {id(p): p.nbytes for network in objective.networks().values() for p in network.parameters()}
    process_bytes = anonymous_bytes() - sum(parameters.values())
    ends: list[Moment] = []
    training = Training(objective, stream, config, benchmark.placement, Worker(rank, world, world))
    updates: list[Moment] = []
    warm: list[int] = []
    for engine in training.engines.values():
        engine.step = _timed(engine.step, updates, ends, warm)  # type: ignore[method-assign]
    training.run()
    steps = [later.since(earlier) for earlier, later in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    alone = world == 1
    return StepMeasurement(
        step_seconds=undisturbed(steps, statistics.median, alone),
        mean_seconds=undisturbed(steps, statistics.fmean, alone),
        update_seconds=undisturbed(updates[WARM_UP:], statistics.median, alone),
        process_bytes=process_bytes,
        peak_bytes=peak_bytes(),
        growth_bytes=_to_come(warm[0]),
    )


class Moment(NamedTuple):
    """Seconds by the clock and of the processor, all threads together; of a moment, or of what happened between two."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.perf_counter(), time.process_time())

    def since(self, earlier: Moment) -> Moment:
        return Moment(self.clock - earlier.clock, self.processor - earlier.processor)


def undisturbed(steps: list[Moment], average: Callable[[list[float]], float], alone: bool) -> float:
    """Average seconds of a step, without the delay by other work on the machine.

    Other work only slows steps down, so the fastest of WINDOWS runs of steps counts, and the processor's time where
    that is less than the clock's: a lone worker (`alone`) waits for nothing but the processor.
    """
    size = max(1, len(steps) // WINDOWS)
    windows = [steps[start : start + size] for start in range(0, len(steps) - size + 1, size)]
    by_clock = min(average([step.clock for step in window]) for window in windows)
    return min(by_clock, *(average([step.processor for step in window]) for window in windows)) if alone else by_clock


def _timed(step: Any, updates: list[Moment], ends: list[Moment], warm: list[int]) -> Any:
    def timed(lr: float) -> float:
        began = Moment.now()
        norm = step(lr)
        ends.append(Moment.now())
        updates.append(ends[-1].since(began))
        if len(ends) == WARM_UP:
            warm.append(peak_bytes())
        return norm

    return timed


if __name__ == "__main__":
    for values in sys.argv[3:]:
        try:
            measured = run(StepBenchmark.model_validate_json(values), int(sys.argv[1]), Path(sys.argv[2]))
        except UserError as refusal:
            print(safe(" ".join(str(refusal).split())), file=sys.stderr, flush=True)
            os._exit(REFUSED)
        print(measured.model_dump_json(), flush=True)
    os._exit(0)  # libraries' threads have nothing left to say
