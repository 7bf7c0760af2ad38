"""All fine-tunings of a job: every model, number of labels and seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.labelled.files import Example, Labelled
from data_prep.rng import key
from data_prep.shards.rows import Ragged, ragged
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.fine_tune.examples import Encoded, drawn, encode, some, stream_of
from pipeline.downstream.fine_tune.job import OWN, Config
from pipeline.downstream.fine_tune.metrics import metric_name, score
from pipeline.downstream.finished import once
from pipeline.stage import Context
from training.config import PlacementConfig, TrainConfig
from training.data import MemoryTable
from training.distributed import Worker, choose_device, set_up_cpu
from training.inference.opening import module_of
from training.loop import Training
from training.objectives.fine_tuning import FineTuning

SELECTION = -1  # the seed whose examples choose learning rates and are never reported
TEST_BATCH = 64
_SCORE = "score.json"


@dataclass(frozen=True)
class Source:
    """Where a model's weights and tokenizer come from; `scratch` keeps the shape and drops the weights."""

    folder: Path
    scratch: bool


class Trials:
    """All fine-tunings of a job."""

    def __init__(
        self,
        job: Config,
        settings: dict[str, Any],
        data: Labelled,
        pretrained: Artifact,
        context: Context,
    ) -> None:
        self.job, self.seed, self.data, self.context = job, settings["seed"], data, context
        self.precision = settings["precision"]
        self.placement = PlacementConfig.model_validate({**context.placement, "workers": 1, "zero": None})
        own = pretrained.path / MODEL
        self.sources = {
            model: Source(own if model in OWN else Path(model).expanduser(), model == "scratch") for model in job.models
        }
        self.held_out: dict[tuple[Path, str], Encoded] = {}
        self.encoders: dict[Source, Any] = {}
        tries = sum(len(self._rates(model)) for model in job.models)
        self.total = len(job.labels) * (tries + job.seeds * len(job.models))
        self.done = 0

    def run(self) -> list[dict[str, Any]]:
        """A cell for each number of labels and model: scores by seed, the chosen rate, the score of each one tried."""
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

    def remarks(self) -> list[str]:
        """How many held-out rows did not fit, in sentences."""
        return [
            f"{rows.cut:,} of {len(rows):,} rows of {split} have over {self.job.length} tokens by {folder} and are cut"
            for (folder, split), rows in self.held_out.items()
            if rows.cut
        ]

    def _rates(self, model: str) -> list[float]:
        scratch = self.job.scratch_lrs or self.job.lrs
        return list(scratch if model == "scratch" else self.job.lrs)

    def _trial(self, model: str, labels: int, seed: int, lr: float, split: str) -> float:
        """Fine-tune once and score on `split`, unless an earlier attempt at the job has (`finished`)."""
        if not self.done:
            self.context.progress(f"fine-tuning {model} from {labels:,} labels", 0.0)
        value = once(
            self.context,
            {"model": model, "labels": labels, "seed": seed, "lr": lr, "split": split},
            lambda: self._score(model, labels, seed, lr, split),
            _save,
            lambda folder: json.loads((folder / _SCORE).read_text()),
        )
        self.done += 1
        self.context.progress(
            f"{model} from {labels:,} labels: {metric_name(self.data)} {value:.3f}", self.done / self.total
        )
        return value

    def _score(self, model: str, labels: int, seed: int, lr: float, split: str) -> float:
        source = self.sources[model]
        train = self.data.splits["train"]
        chosen = [train[i] for i in drawn(len(train), labels, self.seed, seed)]
        rows = self._encoded(chosen, source.folder)
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
        return score(self.data, held_out, predict(objective.predict, held_out))

    def _held_out(self, folder: Path, split: str) -> Encoded:
        if (folder, split) not in self.held_out:
            limit = self.job.validation_rows if split == "validation" else self.job.test_rows
            examples = some(self.data.splits[split], limit, self.seed)
            self.held_out[folder, split] = self._encoded(examples, folder)
        return self.held_out[folder, split]

    def _encoded(self, examples: Sequence[Example], folder: Path) -> Encoded:
        return encode(self.data, examples, folder, self.job.length, framed=self.job.pooling == "last")

    def _encoder(self, source: Source) -> Any:
        """A fresh copy of the source's encoder; from random weights of the current seed if `scratch`."""
        if source not in self.encoders:
            self.encoders[source] = module_of(source.folder).open_trainable(source.folder)
        model = self.encoders[source]
        if source.scratch:
            return module_of(source.folder).from_random_weights(model)
        return copy.deepcopy(model)


def _save(value: float, folder: Path) -> None:
    (folder / _SCORE).write_text(json.dumps(value))


def predict(predictor: Callable[[Any], np.ndarray], rows: Encoded) -> np.ndarray:
    """Labels of all rows (or words), in order. Rows are grouped by length, for less padding."""
    order = np.argsort(-ragged(rows.rows, "input").lengths, kind="stable")
    starts = range(0, len(order), TEST_BATCH)
    labels = np.concatenate([predictor(rows.take(order[a : a + TEST_BATCH])) for a in starts])
    words = rows.rows.get("target_positions")
    answers = words.lengths if isinstance(words, Ragged) else np.ones(len(rows), np.int64)
    return Ragged.from_lengths(labels, answers[order]).take(np.argsort(order)).values
