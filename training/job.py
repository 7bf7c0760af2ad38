"""A pretraining job as plain values, and the function every worker runs on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_prep.corruptions import CorruptionConfig, build, config_union
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
    from training.distributed import Worker
else:
    AnyCorruption = config_union()

METRICS = "metrics.jsonl"
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
    kind: str  # of data
    preprocessor: str = ""  # folder of what was fitted before shards were written: a tokenizer, a transform
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

    from data_prep.kinds import facts_of
    from data_prep.shards.remote import open_shards
    from data_prep.shards.streams import CORRUPT_HELD_OUT
    from training import objectives
    from training.data import Corpus, Samples, Stream, Succession
    from training.distributed import set_up_cpu
    from training.loop import Training
    from training.monitor.stopping import Asked

    set_up_cpu(job.placement.threads, worker.local)
    torch.manual_seed(job.seed)
    opened = partial(open_shards, cache=Path(job.cache), limit=int(job.placement.shard_cache_gb * 1e9))
    facts = facts_of(job.kind, opened(job.corpora[0].folder), Path(job.preprocessor) if job.preprocessor else None)
    objective = objectives.build(job.objective, {"model": job.network}, facts, worker.device.type)

    corrupting = partial(on_load, specials=facts.specials)
    sources = list(dict.fromkeys(c.source or c.name for c in [*job.corpora, *job.longer]))

    def mixture(parts: list[ShardsOf], corruption: CorruptionConfig) -> Stream:
        corpora = [Corpus(c.name, opened(c.folder), c.weight) for c in parts]
        numbers = [sources.index(c.source or c.name) for c in parts] if len(sources) > 1 else None
        changed = augmented(job.augment, corrupting(corruption))
        return Stream(corpora, job.seed, job.order, changed, sources=numbers, global_batch=job.train.global_batch)

    stream: Samples = mixture(job.corpora, job.corruption)
    if job.longer and job.train.longer:
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


def augmented(config: AugmentConfig, corrupt: OnRows | None) -> OnRows | None:
    """Change training pictures, `then` corrupt them. Held-out ones are corrupted alone."""
    from data_prep.corruptions.warp import augment

    if not config.changes:
        return corrupt

    def augment_and_corrupt(rows: Rows, draws: Draws) -> Rows:
        rows = augment(rows, config, draws)
        return corrupt(rows, draws) if corrupt else rows

    return augment_and_corrupt


def on_load(config: CorruptionConfig, specials: Specials | None = None) -> OnRows | None:
    """How rows are corrupted as they are read; None where they were when shards were written."""
    return build(config, specials) if config.at == "load" else None


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
