"""A pretraining job as plain values, and the function every worker runs on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_prep.corruptions import CorruptionConfig, build, config_union
from data_prep.corruptions.masking import MaskingConfig
from data_prep.corruptions.warp import AugmentConfig
from training.config import (
    NetworkConfig,
    ObjectiveConfig,
    OrderConfig,
    PlacementConfig,
    Settings,
    TrainConfig,
)
from training.engines.offload import own_folders

if TYPE_CHECKING:
    AnyCorruption = CorruptionConfig

    from data_prep.rng import Draws
    from data_prep.shards.rows import Rows, Specials
    from training.data import Table
    from training.distributed import Worker
    from training.objective import Objective
else:
    AnyCorruption = config_union()

METRICS = "metrics.jsonl"
PER_SECOND = "_per_second"  # how the name of a speed ends; before it stands what the objective counts in
STACKS = "stacks"  # folder in the work folder; see `training.monitor.watchdog`
STOP = "stop"  # file there; see `training.monitor.stopping`
OnRows = Callable[["Rows", "Draws"], "Rows"]
Corrupting = Callable[[CorruptionConfig], OnRows | None]


class ShardsOf(Settings):
    """One corpus of the mixture, as shards."""

    name: str
    folder: str
    weight: float = 1.0
    source: str = ""  # the same name in every part of training: what its loss is shown under


class Job(Settings):
    """What to train on which shards, and where its files go. Survives a trip through JSON."""

    corpora: list[ShardsOf]
    longer: list[ShardsOf] = Field(default_factory=list)  # of the last steps; see `TrainConfig.longer`
    held_out: str | None = None
    tokenizer: str = ""  # folder; of text
    transform: str = ""  # file that made rows of a table what the network is given; of tables
    augment: AugmentConfig = Field(default_factory=AugmentConfig)  # of pictures
    corruption: AnyCorruption
    order: OrderConfig = Field(default_factory=OrderConfig)
    network: NetworkConfig
    objective: ObjectiveConfig
    train: TrainConfig
    seed: int = 0
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    cache: str = ""  # where shards of a remote store are kept
    start: str | None = None  # folder with the checkpoints of `train.start`
    work: str  # survives attempts: checkpoints and the metrics log
    out: str  # the exported network
    recipe: str  # digest of what is being trained; a checkpoint of another is refused


@own_folders()
def work(job: Job, worker: Worker) -> dict[str, Any]:
    """Train `job` as one of its workers. Every worker returns the same summary.

    If `stopped` is in it, training was asked to stop before its last step, and nothing is exported.
    """
    import torch

    from data_prep.shards.remote import open_shards
    from training.data import CORRUPT_HELD_OUT, Corpus, Samples, Stream, Succession
    from training.distributed import set_up_cpu
    from training.loop import Training
    from training.monitor.stopping import Asked

    set_up_cpu(job.placement.threads, worker.local)
    torch.manual_seed(job.seed)
    opened = partial(open_shards, cache=Path(job.cache), limit=int(job.placement.shard_cache_gb * 1e9))
    objective, corrupting = _text(job, worker) if job.tokenizer else _arrays(job, worker, opened(job.corpora[0].folder))
    sources = list(dict.fromkeys(c.source or c.name for c in [*job.corpora, *job.longer]))

    def mixture(parts: list[ShardsOf], corruption: CorruptionConfig) -> Stream:
        corpora = [Corpus(c.name, opened(c.folder), c.weight) for c in parts]
        numbers = [sources.index(c.source or c.name) for c in parts] if len(sources) > 1 else None
        changed = augmented(job.augment, corrupting(corruption))
        return Stream(corpora, job.seed, job.order, changed, sources=numbers, global_batch=job.train.global_batch)

    stream: Samples = mixture(job.corpora, job.corruption)
    if job.longer and job.train.longer and isinstance(job.corruption, MaskingConfig):
        begins = job.train.longer_from * job.train.global_batch
        stream = Succession(stream, mixture(job.longer, job.train.longer.corruption(job.corruption)), begins)
    held_out, held_out_rows = None, 0
    if job.held_out:
        table = opened(job.held_out)
        held_out_rows = min(table.rows, job.train.evaluate_rows)
        name = job.corpora[0].name
        as_drawn = job.order.model_copy(update={"length_window": None})
        held_out = Stream([Corpus(name, table)], job.seed, as_drawn, corrupting(job.corruption), CORRUPT_HELD_OUT)
    with MetricsLog(Path(job.work) / METRICS, enabled=worker.leads) as log:
        training = Training(
            objective=objective,
            stream=stream,
            config=job.train,
            placement=job.placement,
            worker=worker,
            seed=job.seed,
            held_out=held_out,
            held_out_rows=held_out_rows,
            checkpoints=Path(job.work) / "checkpoints",
            start=(Path(job.start), job.train.start.step) if job.start and job.train.start else None,
            identity={"recipe": job.recipe},
            log=log,
            sources=sources if len(sources) > 1 else (),
            stop=Asked(Path(job.work) / STOP) if worker.leads else lambda: False,
            stacks=Path(job.work) / STACKS,
        )
        summary = training.run()
    if not summary["stopped"]:
        training.export(Path(job.out))
    return summary


def _text(job: Job, worker: Worker) -> tuple[Objective, Corrupting]:
    """The objective of a text job, and how its rows are corrupted as they are read."""
    from data_prep.tokens.tokenizers import specials as load_specials
    from training.objectives import builder

    tokenizer = Path(job.tokenizer)
    specials = load_specials(tokenizer)

    build_objective = builder(job.objective.name)
    objective = build_objective(job.objective, job.network, specials, tokenizer, worker.device.type)
    return objective, partial(on_load, specials=specials)


def augmented(config: AugmentConfig, then: OnRows | None) -> OnRows | None:
    """Change training pictures, `then` corrupt them. Held-out ones are corrupted alone."""
    from data_prep.corruptions.warp import augment

    if not config.changes:
        return then

    def both(rows: Rows, draws: Draws) -> Rows:
        rows = augment(rows, config, draws)
        return then(rows, draws) if then else rows

    return both


def speed_of(record: Mapping[str, Any]) -> str:
    """9,500 tokens/s, or what else the objective counts in; empty where a record tells none."""
    told = ((name.removesuffix(PER_SECOND), value) for name, value in record.items() if name.endswith(PER_SECOND))
    return next((f"{value:,.0f} {unit}/s" for unit, value in told), "")


def on_load(config: CorruptionConfig, specials: Specials | None = None) -> OnRows | None:
    """How rows are corrupted as they are read; None where they were when shards were written."""
    return build(config, specials) if config.at == "load" else None


def _arrays(job: Job, worker: Worker, table: Table) -> tuple[Objective, Corrupting]:
    """The same of tables and pictures, whose shape the first row tells."""
    import numpy as np

    from training.objectives import builder

    shape = np.asarray(table.read(np.zeros(1, np.int64))["input"]).shape[1:]
    transform = Path(job.transform) if job.transform else None
    return builder(job.objective.name)(job.objective, job.network, shape, worker.device.type, transform), on_load


class MetricsLog:
    """Appends records as JSON lines. Whoever watches the run reads this file, so training waits for nobody.

    A run that went on from a checkpoint writes some steps again; readers take the last record of a step. A line that a
    killed run left unfinished is cut off.
    """

    def __init__(self, path: Path, enabled: bool) -> None:
        self.path = path
        self.enabled = enabled

    def __enter__(self) -> MetricsLog:
        if self.enabled:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            self.file = self.path.open("a", buffering=1)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.enabled:
            self.file.close()

    def __call__(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps({**record, "time": time.time()}) + os.linesep)
