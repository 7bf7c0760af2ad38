"""A pretraining job as plain values, and the function by which every worker trains it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
    from training.data import Samples, Stream, Table
    from training.distributed import Worker
    from training.loop import Training
else:
    AnyCorruption = config_union()

METRICS = "metrics.jsonl"
STACKS = "stacks"  # folder in the work folder; see `training.monitor.watchdog`
STOP = "stop"  # file there; see `training.monitor.stopping`
RowTransform = Callable[["Rows", "Draws"], "Rows"]


class CorpusShards(Settings):
    """One corpus of the mixture, as shards."""

    name: str
    """Name of the corpus, which keys its draws."""
    folder: str
    """Folder of its shards: a path, or the address of a remote store."""
    weight: float = 1.0
    """Weight in the mixture, relative to the other corpora."""
    source: str = ""
    """Name that its loss is logged under, the same in every part of training; empty: `name`."""


class Job(Settings):
    """What to train on which shards, and where its files go. Can be written as JSON and read back."""

    corpora: list[CorpusShards]
    """Shards to train on."""
    longer: list[CorpusShards] = Field(default_factory=list)
    """Shards for the last steps; see `TrainConfig.longer`."""
    held_out: str | None = None
    """Folder of the held-out shards; null: no evaluation."""
    held_out_sources: list[tuple[str, int]] = Field(default_factory=list, strict=False)
    """Of a mixture: the sources of consecutive held-out documents, and how many of each; no row has several."""
    kind: str
    """Kind of data; see `data_prep.kinds`."""
    preprocessor: str = ""
    """Folder of what was fitted before shards were written, such as a tokenizer or a transform; empty: nothing."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    """How training images are changed before they are used."""
    corruption: AnyCorruption
    """How inputs are corrupted, and which targets must be predicted."""
    order: OrderConfig = Field(default_factory=OrderConfig)
    """How the order of samples is shuffled."""
    network: NetworkConfig
    """The network to train; to the objective, its network `model`."""
    networks: dict[str, NetworkConfig] = Field(default_factory=dict)
    """The objective's other networks, by name."""
    objective: ObjectiveConfig
    """The loss."""
    train: TrainConfig
    """Budget, optimizer and intervals."""
    seed: int = 0
    """Seed of everything random in the training."""
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    """Where and how fast to train."""
    cache: str = ""
    """Folder for copies of shards from a remote store."""
    start: str | None = None
    """Folder with the checkpoints of `train.start`; null: none."""
    start_folder: str | None = None
    """Folder of the network of `train.start`; null: none."""
    work: str
    """Folder for checkpoints and the metrics log, which outlives restarts."""
    out: str
    """Folder for the exported network."""
    recipe: str
    """Digest of what is trained; checkpoints with another digest are refused."""


@own_folders()
def train(job: Job, worker: Worker) -> dict[str, Any]:
    """Train `job` as one of its workers. Every worker returns the same summary, that of `Training.run`.

    If it says `stopped`, training was asked to stop before its last step, and nothing is exported. Raises UserError
    where settings, networks and data do not fit each other, and where training is given up.
    """
    from training.monitor.stopping import StopRequest

    with MetricsLog(Path(job.work) / METRICS, enabled=worker.leads) as log:
        training, remarks = _training(
            job,
            worker,
            checkpoints=Path(job.work) / "checkpoints",
            start=(Path(job.start), job.train.start.step or 0) if job.start and job.train.start else None,
            identity={"recipe": job.recipe},
            log=log,
            stop=StopRequest(Path(job.work) / STOP) if worker.leads else lambda: False,
            stacks=Path(job.work) / STACKS,
        )
        summary = training.run()
    if not summary["stopped"]:
        training.export(Path(job.out))
    return summary | ({"started": remarks} if job.start_folder else {})


def held_out_means(job: Job, worker: Worker, export: Path | None = None) -> dict[str, float]:
    """What evaluation says before the first step. export: an export of the objective's, whose weights are taken."""
    return _training(job, worker, export)[0].evaluate()


def _training(job: Job, worker: Worker, export: Path | None = None, **others: Any) -> tuple[Training, list[str]]:
    """The training as it begins, and sentences about what became of the weights that it starts from."""
    import torch

    from data_prep.kinds import facts_of
    from data_prep.shards.remote import open_shards
    from training import objectives
    from training.distributed import set_up_cpu
    from training.loop import Training

    set_up_cpu(job.placement.threads, worker.local)
    torch.manual_seed(job.seed)
    open_table = partial(open_shards, cache=Path(job.cache), limit=int(job.placement.shard_cache_gb * 1e9))
    preprocessor = Path(job.preprocessor) if job.preprocessor else None
    facts = facts_of(job.kind, open_table(job.corpora[0].folder), preprocessor)
    networks = {"model": job.network, **job.networks}
    objective: Any = objectives.build(job.objective, networks, facts, worker.device.type)
    remarks: list[str] = []
    if export is not None:
        objective.load_export(export)
    elif job.start_folder and not job.start:
        remarks = objective.start_from(Path(job.start_folder))
    trained = [corpus.source or corpus.name for corpus in [*job.corpora, *job.longer]]
    sources = list(dict.fromkeys([*trained, *(source for source, _ in job.held_out_sources)]))
    if len(sources) == 1 and not job.start_folder:  # of an adapted network, even a single one is reported
        sources = []
    stream = training_stream(job, open_table, facts.specials, sources)
    held_out, held_out_rows = held_out_stream(job, open_table, facts.specials, sources)
    training = Training(
        objective=objective,
        stream=stream,
        config=job.train,
        placement=job.placement,
        worker=worker,
        seed=job.seed,
        held_out=held_out,
        held_out_rows=held_out_rows,
        evaluate_first=bool(job.start_folder),
        sources=sources,
        **others,
    )
    return training, remarks


def training_stream(
    job: Job, open_table: Callable[[str], Table], specials: Specials | None, sources: list[str]
) -> Samples:
    """The mixture that is trained on and, for the last steps, that of longer rows.

    sources: names that the rows' column `source` counts; without any, rows have no such column.
    """
    from training.data import ConsecutiveStreams, Corpus, Stream

    def mixture(corpora: list[CorpusShards], corruption: CorruptionConfig) -> Stream:
        tables = [Corpus(corpus.name, open_table(corpus.folder), corpus.weight) for corpus in corpora]
        numbers = [sources.index(corpus.source or corpus.name) for corpus in corpora] if sources else None
        transform = augmented(job.augment, corruption_on_load(corruption, specials))
        return Stream(tables, job.seed, job.order, transform, sources=numbers, global_batch=job.train.global_batch)

    stream = mixture(job.corpora, job.corruption)
    if not (job.longer and job.train.longer):
        return stream
    begins = job.train.longer_from * job.train.global_batch
    return ConsecutiveStreams(stream, mixture(job.longer, job.train.longer.corruption(job.corruption)), begins)


def held_out_stream(
    job: Job, open_table: Callable[[str], Table], specials: Specials | None, sources: Sequence[str] = ()
) -> tuple[Stream | None, int]:
    """The stream of held-out rows, corrupted by draws of their own and not regrouped by length, and how many count.

    sources: as of `training_stream`.
    """
    from data_prep.shards.streams import CORRUPT_HELD_OUT
    from training.data import Corpus, Stream

    if not job.held_out:
        return None, 0
    table = open_table(job.held_out)
    order = job.order.model_copy(update={"length_window": None})
    corpus = Corpus(job.corpora[0].name, table)
    transform = corruption_on_load(job.corruption, specials)
    if sources and job.held_out_sources:
        transform = with_source(transform, job.held_out_sources, sources)
    return Stream([corpus], job.seed, order, transform, CORRUPT_HELD_OUT), min(table.rows, job.train.evaluate_rows)


def with_source(corrupt: RowTransform | None, runs: Sequence[tuple[str, int]], sources: Sequence[str]) -> RowTransform:
    """Adds the column `source` to rows, by the first document of each. runs: sources of consecutive documents."""
    ends = np.cumsum([count for _, count in runs])
    numbers = np.array([sources.index(source) for source, _ in runs], np.uint16)

    def corrupt_with_source(rows: Rows, draws: Draws) -> Rows:
        documents = rows["document"]
        first = documents if isinstance(documents, np.ndarray) else documents.values[documents.offsets[:-1]]
        source = numbers[np.searchsorted(ends, first, side="right")]
        return {**(corrupt(rows, draws) if corrupt else rows), "source": source}

    return corrupt_with_source


def augmented(config: AugmentConfig, corrupt: RowTransform | None) -> RowTransform | None:
    """Training images are augmented, then corrupted; held-out ones are only corrupted."""
    from data_prep.corruptions.warp import augment

    if not config.changes:
        return corrupt

    def augment_and_corrupt(rows: Rows, draws: Draws) -> Rows:
        rows = augment(rows, config, draws)
        return corrupt(rows, draws) if corrupt else rows

    return augment_and_corrupt


def corruption_on_load(config: CorruptionConfig, specials: Specials | None = None) -> RowTransform | None:
    """The corruption of rows as they are read; None where rows were corrupted when shards were written."""
    return build(config, specials) if config.at == "load" else None


class MetricsLog:
    """Appends records as JSON lines, for those who monitor the run; training waits for no reader.

    A resumed run writes some steps again; readers take the last record of a step. An incomplete line of a killed run is
    removed.
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
