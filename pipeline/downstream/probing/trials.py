"""All probes of a job: every model, seed and layer, on the task and on its control."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.examples import Example, Labelled
from data_prep.rng import key
from data_prep.shards.rows import Ragged, ragged
from pipeline.downstream.counted import Counted, of_seeds
from pipeline.downstream.fine_tune import metrics
from pipeline.downstream.fine_tune.examples import drawn, some
from pipeline.downstream.fine_tune.heads import Encoded, Layout, module_of, shape_of, tokenizer_of
from pipeline.downstream.finished import once
from pipeline.downstream.frozen_models import FrozenModels, Opened
from pipeline.downstream.probes import fitted_linear
from pipeline.downstream.probing.controls import control_labels
from pipeline.downstream.probing.job import Config
from pipeline.stage import Context
from training.inference.layers import at, means

_PROBES = "probes.json"


@dataclass(frozen=True)
class Probe:
    """What one layer knows by one draw of training rows, as shares of 1.

    validation, test: the number that counts. accuracy: of the test's labels one by one; control: that of the control
    task, None where there is none. stopped: probes that ended before they had converged.
    """

    seed: int
    layer: int
    validation: float
    test: float
    accuracy: float
    control: float | None
    stopped: int


@dataclass(frozen=True)
class ModelProbes:
    """The probes of a model. num_layers: of the network, without the embeddings."""

    model: str
    num_layers: int
    probes: Sequence[Probe]
    remarks: Sequence[str]


class _Asked(NamedTuple):
    """Labels that a probe is asked for: vectors [M, D] by layer, truth [M], and words; none where rows have labels."""

    encoded: Encoded
    layers: list[np.ndarray]
    truth: np.ndarray
    words: list[str]


class Trials:
    """All probes of a job that is fitted to its data."""

    def __init__(self, job: Config, models: FrozenModels, data: Labelled, context: Context) -> None:
        self.job, self.models, self.data, self.context = job, models, data, context
        self.shape, self.main = shape_of(data), metrics.main_metric(data)
        self.head = module_of(self.shape)
        overlap = job.length // 3 if job.window_overlap is None else job.window_overlap
        self.layout = Layout(job.length, overlap)
        self.has_control = job.control and data.head == "tags"
        self.remarks: list[str] = []

    def run(self) -> list[ModelProbes]:
        """The probes of every model."""
        of_models = [
            once(self.context, {"model": name}, lambda name=name: self._of_model(name), _save, _open)
            for name in self.models.names
        ]
        remarks = [text for of in of_models for text in of.remarks]
        stopped = sum(probe.stopped for of in of_models for probe in of.probes)
        count = sum((1 + self.has_control) * len(of.probes) for of in of_models)
        if stopped:
            most = f"{self.job.iterations:,} iterations"
            remarks.append(f"{stopped:,} of {count:,} probes had not converged after {most}")
        self.remarks = list(dict.fromkeys(remarks))
        return of_models

    def _of_model(self, name: str) -> ModelProbes:
        opened = self.models.open(name, self.job.length)
        validation, test = (
            self._asked(opened, some(self.data.splits[split], most, self.models.seed))
            for split, most in (("validation", self.job.validation_rows), (self.data.reported, self.job.test_rows))
        )
        layers = self.job.layers or list(range(len(test.layers)))
        if max(layers) >= len(test.layers) or min(layers) < 0:
            raise UserError(f"{self.models.folders[name]}: has layers 0 to {len(test.layers) - 1}; correct layers.")
        rows, probes, learned = self.data.splits["train"], list[Probe](), list[Sequence[Counted]]()
        for seed in range(self.job.seeds):
            chosen = drawn(len(rows), self.job.labels or len(rows), self.models.seed, seed)
            train = self._asked(opened, [rows[place] for place in chosen])
            learned.append(train.encoded.counted)
            for number, layer in enumerate(layers):
                done = (seed + number / len(layers)) / self.job.seeds
                self.context.progress(f"{name}: layer {layer}, seed {seed}", done)
                probes.append(self._probe(layer, seed, train, validation, test))
        read = {"train": learned, "validation": [validation.encoded.counted]}
        read |= {self.data.reported: [test.encoded.counted]}
        remarks = [f"{split} by {name}: {text}" for split, counted in read.items() for text in of_seeds(counted)]
        return ModelProbes(name, len(test.layers) - 1, probes, remarks)

    def _asked(self, opened: Opened, examples: Sequence[Example]) -> _Asked:
        """The labels of examples, and the vectors that they are asked of."""
        framed = self.job.pooling == "last"
        tokenizer = tokenizer_of(self.shape, self.models.folders[opened.name], framed)
        encoded: Encoded = self.head.encode(self.shape, examples, tokenizer, self.layout)
        if self.data.head == "tags":
            words = [word for example in examples for word in example.words]
            layers = at(opened.encoder, encoded.rows, ragged(encoded.rows, "target_positions"))
            truth = ragged(encoded.rows, "target_ids").values
            return _Asked(encoded, layers, truth, [words[number] for number in encoded.more["word"]])
        lengths = ragged(encoded.rows, "input").lengths
        if self.job.pooling == "mean":
            layers = means(opened.encoder, encoded.rows)
        else:
            places = lengths - 1 if self.job.pooling == "last" else np.zeros_like(lengths)
            layers = at(opened.encoder, encoded.rows, Ragged.from_lengths(places, np.ones_like(lengths)))
        return _Asked(encoded, layers, np.asarray(encoded.rows["label"]), [])

    def _probe(self, layer: int, seed: int, train: _Asked, validation: _Asked, test: _Asked) -> Probe:
        probe, stopped = self._fitted(train.layers[layer], train.truth)
        of_validation, of_test = (self._score(probe, layer, asked) for asked in (validation, test))
        accuracy = float(probe.score(test.layers[layer], test.truth))
        control = None
        if self.has_control:
            control_seed = key(self.models.seed, f"control {seed}")
            labels, truth = (control_labels(asked.words, train.truth, control_seed) for asked in (train, test))
            controlled, also_stopped = self._fitted(train.layers[layer], labels)
            control, stopped = float(controlled.score(test.layers[layer], truth)), stopped + also_stopped
        return Probe(seed, layer, of_validation, of_test, accuracy, control, stopped)

    def _fitted(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[Any, bool]:
        """A probe, and whether it ended before it had converged. Of a single label, one that always says that."""
        if len(np.unique(labels)) == 1:
            from sklearn.dummy import DummyClassifier

            return DummyClassifier(strategy="most_frequent").fit(vectors, labels), False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "lbfgs failed to converge")  # which is counted, and told
            probe = fitted_linear(vectors, labels, 1 / self.job.regularisation, self.job.iterations)
        return probe, bool(probe[-1].n_iter_.max() >= self.job.iterations)

    def _score(self, probe: Any, layer: int, asked: _Asked) -> float:
        """The number that counts, by the task's own metric."""
        scores = np.full((len(asked.truth), len(self.shape.labels)), -np.inf)
        with np.errstate(divide="ignore"):
            scores[:, probe.classes_] = np.log(probe.predict_proba(asked.layers[layer]))
        by_label = Ragged.from_lengths(scores, np.ones(len(scores), np.int64))
        predicted = self.head.predicted(self.shape, asked.encoded, by_label)
        return metrics.scores(self.data, asked.encoded.examples, predicted)[self.main]


def _save(of: ModelProbes, folder: Path) -> None:
    (folder / _PROBES).write_text(json.dumps(asdict(of)))


def _open(folder: Path) -> ModelProbes:
    values = json.loads((folder / _PROBES).read_text())
    return ModelProbes(**{**values, "probes": [Probe(**probe) for probe in values["probes"]]})
