"""Few labels: fine-tune a pretrained encoder beside the same one from random weights, and beside simple baselines.

For every number of labels n and every seed s, all models learn from the same n examples (drawn by s), for the same
number of steps, and are scored on the same test rows, so their differences are paired. Each model's learning rate is
chosen per n on validation rows, with a draw of examples that no reported seed uses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.files import Labelled, LabelledConfig, load
from data_prep.rng import key
from data_prep.shards.order import permute
from data_prep.shards.rows import Ragged, ragged
from pipeline.artifact import Artifact
from pipeline.downstream.fine_tune import baselines, report
from pipeline.downstream.fine_tune.examples import Encoded, encode, stream_of
from pipeline.downstream.fine_tune.metrics import metric_name, score
from pipeline.fingerprint import digest, file_digest
from pipeline.recipe.recipe import DownstreamConfig, Recipe
from pipeline.reports import data as figures
from pipeline.stage import Context, Stage
from pipeline.stages.pretrain import MODEL
from training.config import PlacementConfig, TrainConfig
from training.hardware import resolve_precision

E = TypeVar("E")
SELECTION = -1  # the seed whose examples choose learning rates and are never reported
TEST_BATCH = 64


def config(recipe: Recipe, job: DownstreamConfig) -> dict[str, Any]:
    files = [Path(model).expanduser() for model in job.models if model not in ("pretrained", "scratch")]
    if job.data.path:
        files.append(Path(job.data.path).expanduser())
    settings = job.model_dump(mode="json")
    if job.length_window is None:
        del settings["length_window"]  # which it was before there was a choice
    return {
        "job": settings,
        "contents": {str(path): _contents(path) for path in files},
        "seed": recipe.seed,
        "precision": resolve_precision(recipe.train.precision, recipe.placement.device),
    }


def _contents(path: Path) -> str:
    """Digest of a file, or of the files in a folder: what the user brings enters the key by what it holds."""
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        return digest({str(p.relative_to(path)): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()})
    raise UserError(f"downstream: {path} does not exist; correct data.path or models in the recipe.")


@dataclass(frozen=True)
class Source:
    """Where a model's weights and tokenizer come from; `scratch` keeps the shape and drops the weights."""

    folder: Path
    scratch: bool


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    job = DownstreamConfig.model_validate(config["job"])
    corpus = inputs["corpus"].path if "corpus" in inputs else None
    context.progress("reading labelled examples")
    data = load(LabelledConfig.model_validate(config["job"]["data"]), context.downloads, corpus)
    trials = _Trials(job, config, data, inputs, context)
    cells = [*trials.run(), *_baselines(job, config["seed"], data)]
    result = report.build(job, data, cells, config["precision"])
    report.write(result, out_dir)
    figures.learning_curve(result, out_dir / "figures" / "learning-curve.png")
    return report.summary(result)


class _Trials:
    """All fine-tunings of a job."""

    def __init__(
        self,
        job: DownstreamConfig,
        config: dict[str, Any],
        data: Labelled,
        inputs: dict[str, Artifact],
        context: Context,
    ) -> None:
        self.job, self.seed, self.data, self.context = job, config["seed"], data, context
        self.precision = config["precision"]
        self.placement = PlacementConfig.model_validate({**context.placement, "workers": 1, "zero": None})
        own = inputs["pretrained"].path / MODEL
        self.sources = {
            model: Source(own if model in ("pretrained", "scratch") else Path(model).expanduser(), model == "scratch")
            for model in job.models
        }
        self.held_out: dict[tuple[Path, str], Encoded] = {}
        self.encoders: dict[Source, Any] = {}
        tries = sum(len(self._rates(model)) for model in job.models)
        self.total = len(job.labels) * (tries + job.seeds * len(job.models))
        self.done = 0

    def run(self) -> list[dict[str, Any]]:
        cells = []
        for labels in self.job.labels:
            for model in self.job.models:
                tried = {lr: self._trial(model, labels, SELECTION, lr, "validation") for lr in self._rates(model)}
                lr = max(tried, key=lambda rate: tried[rate])
                scores = [self._trial(model, labels, seed, lr, "test") for seed in range(self.job.seeds)]
                cells.append(
                    {
                        "model": model,
                        "kind": "network",
                        "labels": labels,
                        "scores": scores,
                        "lr": lr,
                        "tried": {str(rate): value for rate, value in tried.items()},
                    }
                )
        return cells

    def _rates(self, model: str) -> list[float]:
        scratch = self.job.scratch_lrs or self.job.lrs
        return list(scratch if model == "scratch" else self.job.lrs)

    def _trial(self, model: str, labels: int, seed: int, lr: float, split: str) -> float:
        """Fine-tune once and score on `split`."""
        import torch

        from training.data import MemoryTable
        from training.distributed import Worker, choose_device, set_up_cpu
        from training.loop import Training
        from training.objectives.fine_tuning import FineTuning

        if not self.done:
            self.context.progress(f"fine-tuning {model} from {labels:,} labels", 0.0)
        source = self.sources[model]
        train = self.data.splits["train"]
        chosen = [train[i] for i in drawn(len(train), labels, self.seed, seed)]
        rows = encode(self.data, chosen, source.folder, self.job.length)
        set_up_cpu(self.placement.threads)
        trial_seed = key(self.seed, f"{self.job.name} seed {seed}") >> 1
        torch.manual_seed(trial_seed)
        objective = FineTuning(
            self._encoder(source),
            source.folder,
            self.data.labels,
            "words" if self.data.task == "tagging" else self.job.pooling,
            pad=rows.pad,
        )
        config = TrainConfig(
            global_batch=min(self.job.batch, len(chosen)),
            steps=self.job.steps,
            lr=lr,
            warmup_steps=self.job.steps // 10,
            precision=self.precision,
            log_every=self.job.steps,
        )
        window = self.job.length_window
        worker = Worker(device=choose_device(self.placement.device))
        Training(
            objective, stream_of(MemoryTable(rows.rows, len(rows)), config.global_batch, trial_seed, window), config,
            placement=PlacementConfig(device=self.placement.device), worker=worker, seed=trial_seed,
        ).run()  # fmt: skip
        held_out = self._held_out(source.folder, split)
        value = score(self.data, held_out, predict(objective.predict, held_out))
        self.done += 1
        self.context.progress(
            f"{model} from {labels:,} labels: {metric_name(self.data)} {value:.3f}", self.done / self.total
        )
        return value

    def _held_out(self, folder: Path, split: str) -> Encoded:
        if (folder, split) not in self.held_out:
            limit = self.job.validation_rows if split == "validation" else self.job.test_rows
            examples = some(self.data.splits[split], limit, self.seed)
            self.held_out[folder, split] = encode(self.data, examples, folder, self.job.length)
        return self.held_out[folder, split]

    def _encoder(self, source: Source) -> Any:
        """A fresh copy of the source's encoder; from random weights of the current seed if `scratch`."""
        from transformers import AutoModel

        if source not in self.encoders:
            self.encoders[source] = AutoModel.from_pretrained(source.folder, attn_implementation="eager")
        model = self.encoders[source]
        if source.scratch:
            return AutoModel.from_config(model.config)
        return copy.deepcopy(model)


def _baselines(job: DownstreamConfig, seed: int, data: Labelled) -> list[dict[str, Any]]:
    """Scores of the methods without a network, on the same draws."""
    test = some(data.splits["test"], job.test_rows, seed)
    cells = []
    for name in job.baselines:
        for labels in job.labels:
            scores = []
            for number in range(job.seeds):
                train = data.splits["train"]
                chosen = [train[i] for i in drawn(len(train), labels, seed, number)]
                scores.append(baselines.score(name, data, chosen, test))
            cells.append(
                {"model": name, "kind": "baseline", "labels": labels, "scores": scores, "lr": None, "tried": {}}
            )
    return cells


def drawn(available: int, labels: int, seed: int, number: int) -> np.ndarray:
    """Which examples draw `number` learns from: the first of a keyed shuffle, so larger draws contain smaller ones."""
    return permute(np.arange(min(labels, available)), available, key(seed, f"labelled draw {number}"))


def some(examples: Sequence[E], limit: int, seed: int) -> list[E]:
    """A fixed sample of held-out examples."""
    if len(examples) <= limit:
        return list(examples)
    return [examples[i] for i in permute(np.arange(limit), len(examples), key(seed, "held-out examples"))]


def predict(predictor: Callable[[Any], np.ndarray], rows: Encoded) -> np.ndarray:
    """Labels of all rows (or words), in order. Rows of like length go together, so that little is padding."""
    order = np.argsort(-ragged(rows.rows, "input").lengths, kind="stable")
    starts = range(0, len(order), TEST_BATCH)
    found = np.concatenate([predictor(rows.take(order[a : a + TEST_BATCH])) for a in starts])
    words = rows.rows.get("target_positions")
    answers = words.lengths if isinstance(words, Ragged) else np.ones(len(rows), np.int64)
    return Ragged.from_lengths(found, answers[order]).take(np.argsort(order)).values


DOWNSTREAM = Stage("downstream", 1, run)
