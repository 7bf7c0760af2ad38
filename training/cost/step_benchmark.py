"""Some steps of training on rows made of nothing, timed: `python -m training.cost.step_benchmark RANK FOLDER TRIAL …`.

    trials ─► one process per worker ─► the training loop as it is ─► Measured: seconds of a step, bytes at the peak

What `sesame plan` calibrates by, on a network of one and of three layers, and what it is compared with, on all of them.
Networks of tables and pictures are small: they are tried whole.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from data_prep.corruptions import CorruptionConfig, config_union
from data_prep.corruptions.warp import AugmentConfig
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, Settings, TrainConfig
from training.objectives import options_of

if TYPE_CHECKING:
    AnyCorruption = CorruptionConfig

    from training.data import Stream
    from training.objective import Objective
else:
    AnyCorruption = config_union()

ROWS = 256  # of the table that all steps read
SHARD_VALUES = 1 << 22  # at most, of the shards that arrays are read from
WARM_UP = 2  # steps that are not counted: allocation, choice of kernels


class Trial(Settings):
    """What to try of a training on text."""

    network: NetworkConfig
    objective: ObjectiveConfig
    vocabulary: int
    length: int
    rate: float  # of masking, and
    max_predictions: int
    batch: int  # rows per step, all workers
    steps: int
    precision: str
    placement: PlacementConfig

    def build(self, folder: Path) -> tuple[Objective, Stream, TrainConfig]:
        """What a worker trains, on which rows."""
        import numpy as np

        from data_prep.corruptions.masking import Masking, MaskingConfig
        from data_prep.shards.rows import Ragged, Specials
        from training.data import Corpus, MemoryTable, Stream
        from training.objectives import build

        specials = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=self.vocabulary)
        random = np.random.default_rng(0)
        tokens = random.integers(5, self.vocabulary, (ROWS, self.length)).astype(np.uint32)
        lengths = np.full(ROWS, self.length)
        columns: dict[str, Any] = {"input": Ragged.from_lengths(tokens.ravel(), lengths)}
        if options_of(self.objective).sentence != "none":
            columns["label"] = random.integers(0, 2, ROWS).astype(np.uint8)
        masking = MaskingConfig.model_validate(
            {"kind": "masked-lm", "rate": self.rate, "max_predictions": self.max_predictions}
        )
        table = MemoryTable(columns, ROWS)
        stream = Stream([Corpus("made up", table)], 0, OrderConfig(), Masking(masking, specials))
        train = TrainConfig(steps=self.steps, global_batch=self.batch, precision=self.precision)  # type: ignore[arg-type]
        data = DataFacts("text", ("input", "label"), length=self.length, specials=specials)
        return build(self.objective, {"model": self.network}, data, "cpu"), stream, train


class ArrayTrial(Settings):
    """What to try of a training on tables or pictures."""

    network: NetworkConfig
    objective: ObjectiveConfig
    shape: list[int]  # of a row
    rows: int  # to read from
    order: OrderConfig
    augment: AugmentConfig
    corruption: AnyCorruption
    optimizer: Literal["adamw", "sgd"]
    log_every: int
    batch: int  # rows per step, all workers
    steps: int
    precision: str
    placement: PlacementConfig

    def build(self, folder: Path) -> tuple[Objective, Stream, TrainConfig]:
        """What a worker trains, on which rows: from shards in `folder`, for reading is much of so short steps."""
        import numpy as np

        from data_prep.shards.format import Shards, ShardWriter
        from training.data import Corpus, Stream
        from training.job import augmented, on_load
        from training.objectives import build

        random, pictures = np.random.default_rng(0), len(self.shape) > 1
        count = max(1, min(self.rows, SHARD_VALUES // math.prod(self.shape)))
        values = random.integers(0, 256, (count, *self.shape), np.uint8)
        rows: dict[str, Any] = {
            "input": values if pictures else values.astype(np.float32) / 255,
            "label": np.zeros(count, np.int64),
            "row": np.arange(count),
        }
        writer = ShardWriter(Path(tempfile.mkdtemp(dir=folder)), count)
        writer.write(rows)
        writer.close()
        changed = augmented(self.augment, on_load(self.corruption))
        stream = Stream([Corpus("made up", Shards(writer.folder))], 0, self.order, changed)
        train = TrainConfig(
            steps=self.steps,
            global_batch=self.batch,
            precision=self.precision,  # type: ignore[arg-type]
            optimizer=self.optimizer,
            log_every=self.log_every,
        )
        data = DataFacts("images" if pictures else "table", ("input", "label"), tuple(self.shape))
        return build(self.objective, {"model": self.network}, data, "cpu"), stream, train


AnyTrial = Trial | ArrayTrial


class Measured(Settings):
    """What came of it, by the slowest and the largest of the workers."""

    step_seconds: float  # median; of a text's equal steps
    mean_seconds: float = 0.0  # of a step, with what comes between steps
    update_seconds: float  # of that, after the backward pass: sums over workers, clipping, optimizer
    peak_bytes: int  # anonymous resident memory; 0 where the system does not tell


def measure(*trials: AnyTrial) -> list[Measured]:
    """Run trials of one number of workers, one after another, in processes of their own.

    Those inherit this one's priority. Raises UserError with their last word if one of them fails.
    """
    told_of = [trial.model_dump_json() for trial in trials]
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "training.cost.step_benchmark", str(rank), folder, *told_of],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(trials[0].placement.workers)
        ]
        try:
            told = [worker.communicate() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        for worker, (_, errors) in zip(workers, told, strict=True):
            if worker.returncode:
                last = (errors.strip().splitlines() or [f"exit status {worker.returncode}"])[-1]
                raise UserError(f"a trial of this training failed: {last}")
    by_worker = [[Measured.model_validate_json(line) for line in out.splitlines()[-len(trials) :]] for out, _ in told]
    return [_most(found) for found in zip(*by_worker, strict=True)]


def _most(found: tuple[Measured, ...]) -> Measured:
    names = Measured.model_fields
    return Measured.model_validate({name: max(getattr(one, name) for one in found) for name in names})


def peak_bytes() -> int:
    """Most anonymous memory that this process has had resident; mapped files do not count. 0 if not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if "kB" in value}
    return (found["VmHWM"] - found["RssFile"] - found["RssShmem"]) * 1024


def run(trial: AnyTrial, rank: int, folder: Path) -> Measured:
    """This worker's part of a trial."""
    import torch.distributed as dist

    from training.distributed import Worker, set_up_cpu
    from training.loop import Training

    world = trial.placement.workers
    set_up_cpu(trial.placement.threads, world)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    objective, stream, config = trial.build(folder)
    ends: list[float] = []
    training = Training(objective, stream, config, trial.placement, Worker(rank, world, world))
    updates: list[float] = []
    for engine in training.engines.values():
        engine.step = _timed(engine.step, updates, ends)  # type: ignore[method-assign]
    training.run()
    steps = [later - earlier for earlier, later in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    return Measured(
        step_seconds=statistics.median(steps),
        mean_seconds=statistics.fmean(steps),
        update_seconds=statistics.median(updates[WARM_UP:]),
        peak_bytes=peak_bytes(),
    )


def _timed(step: Any, seconds: list[float], ends: list[float]) -> Any:
    def timed(lr: float) -> float:
        began = time.perf_counter()
        norm = step(lr)
        ends.append(time.perf_counter())
        seconds.append(ends[-1] - began)
        return norm

    return timed


if __name__ == "__main__":
    for told in sys.argv[3:]:
        print(
            run(TypeAdapter(AnyTrial).validate_json(told), int(sys.argv[1]), Path(sys.argv[2])).model_dump_json(),
            flush=True,
        )
    os._exit(0)  # libraries' threads have nothing left to say
